# SPDX-License-Identifier: GPL-2.0
# Runs the KUnit tests of the series and the doctests of its modules, with the kernel's own
# kunit.py. The architecture um is User Mode Linux: the kernel is a process of the host.

kunit_tests=rust/kernel/fs/.kunitconfig

# run_kunit ARCH TAP: build and boot a kernel, and write the results to the file TAP, for tap.py.
run_kunit() {
	local arch=$1 tap=$2 console=${2%.tap}.console out=build-$1-kunit tree=${only_tree:-$last_tree}
	step "kunit-$arch-build" "building the $arch kernel (KUnit)" make_kunit
	step "kunit-$arch" "running the KUnit tests ($arch)" run_suites
}

# kunit COMMAND...: run kunit.py in $out of the tree, with TCG instead of KVM.
kunit() {
	local qemu=$build/kunit/qemu-system-x86_64
	mkdir -p "$build/kunit"
	# shellcheck disable=SC2016 # expands there
	printf '#!/bin/bash\nexec "%s" "${@/#kvm/tcg}"\n' "$(type -P qemu-system-x86_64)" >"$qemu"
	chmod +x "$qemu"
	PATH=$build/kunit:$PATH tools/testing/kunit/kunit.py "$1" --arch="$arch" --build_dir="$out" \
		--kunitconfig="$out/kunitconfig" --kunitconfig="$kunit_tests" \
		"${kernel_options[@]/#/--make_options=}" --make_options=LOCALVERSION= "${@:2}"
}

# kunit.py takes options that it is not given from the defaults of Kconfig. Give it a complete
# .config, made by allnoconfig, without the consoles, which it sets: that builds much less.
make_kunit() {
	cd "$tree"
	mkdir -p "$out"
	cat "$kunit_tests" "$top/configs/kunit.config" >"$out/all.config"
	kernel_make "$tree" "$arch" "$out" KCONFIG_ALLCONFIG="$tree/$out/all.config" allnoconfig
	grep -v 'CONFIG_SERIAL_' "$out/.config" >"$out/kunitconfig"
	kunit build
}

# run_suite NAME GLOB: boot, run the tests that match, and print their indented results.
run_suite() {
	local status=0
	echo "# begin $1"
	kunit exec --raw_output=kunit "$2" | sed '/^\(ok\|not ok\|1\.\.\)/d; s/^    //' || status=$?
	echo "# end $1 $status"
	cat "$out/test.log" >>"$console"
}

# Does not fail if tests do: the results contain the failures.
run_suites() {
	local module
	cd "$tree"
	rm -f "$console"
	for module in interop_rbtree fs_eventpoll; do
		run_suite "rust_$module" "rust_$module"
		run_suite "doctest_$module" "rust_doctests_kernel.*_kernel_${module}_rs_*"
	done
	! grep -Eq -f "$lib/complaints" "$console" ||
		printf '# begin kernel\n1..1\nnot ok 1 the kernel complained: see %s\n# end kernel 1\n' "$console"
	echo '# end of all tests'
} >"$tap"
