# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
#
# Builds kernels with the KUnit tests of the series and the doctests of its modules, and
# boots them, both by the kernel's own kunit.py. The architecture um is a kernel that is a
# program of this machine; x86_64 and arm64 run under QEMU.

kunit_tests=rust/kernel/fs/.kunitconfig

# kunit COMMAND...: kunit.py, in $out of the tree.
kunit() {
	tools/testing/kunit/kunit.py "$1" --arch="$arch" --build_dir="$out" \
		--kunitconfig="$out/kunitconfig" --kunitconfig="$kunit_tests" \
		"${kernel_options[@]/#/--make_options=}" --make_options=LOCALVERSION= "${@:2}"
}

# kunit.py adds the defaults of Kconfig to what it is given. A whole configuration, on
# top of allnoconfig, leaves it nothing to add but its consoles: most of the kernel
# need not be built.
make_kunit() {
	cd "$last_tree"
	mkdir -p "$out"
	cat "$kunit_tests" "$top/configs/kunit.config" >"$out/all.config"
	kernel_make "$last_tree" "$arch" "$out" KCONFIG_ALLCONFIG="$last_tree/$out/all.config" allnoconfig
	grep -v 'CONFIG_SERIAL_' "$out/.config" >"$out/kunitconfig"
	kunit build
}

# kunit.py lets QEMU take KVM where there is /dev/kvm, even if it starts no guest.
only_tcg() {
	local dir=$build/kunit qemu
	qemu=$(type -P qemu-system-x86_64)
	mkdir -p "$dir"
	# shellcheck disable=SC2016 # expands there
	printf '#!/bin/bash\nexec "%s" "${@/#kvm/tcg}"\n' "$qemu" >"$dir/qemu-system-x86_64"
	chmod +x "$dir/qemu-system-x86_64"
	PATH=$dir:$PATH
}

# run_suite NAME GLOB: boot, run the tests of one suite that GLOB matches, and print
# their results, which stand indented below that of the suite.
run_suite() {
	local status=0
	printf '# begin %s\n' "$1"
	kunit exec --raw_output=kunit "$2" | sed '/^\(ok\|not ok\|1\.\.\)/d; s/^    //' || status=$?
	printf '# end %s %d\n' "$1" "$status"
	cat "$out/test.log" >>"$console"
}

# Does not fail if tests do: failures are lines of the results.
run_suites() {
	local module
	cd "$last_tree"
	[ "$arch" != x86_64 ] || only_tcg
	rm -f "$console"
	for module in interop_rbtree fs_eventpoll; do
		run_suite "rust_$module" "rust_$module"
		run_suite "doctest_$module" "rust_doctests_kernel.*_kernel_${module}_rs_*"
	done
	if grep -Eq "$complaints" "$console"; then
		printf '# begin kernel\n1..1\nnot ok 1 the kernel complained: see %s\n# end kernel 1\n' "$console"
	fi
	printf '# end of all tests\n'
} >"$tap"

# run_kunit ARCH TAP: build, boot, and write the results to the file TAP, for tap.py.
run_kunit() {
	local arch=$1 tap=$2 console=${2%.tap}.console out=build-$1-kunit
	step "kunit-$arch-build" "building the $arch kernel (KUnit)" make_kunit
	step "kunit-$arch" "running the KUnit tests ($arch)" run_suites
}
