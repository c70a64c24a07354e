#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# programs.sh ARCH: build what runs in the guest, statically linked, and put it
# into build/guest/ARCH/: the kselftests of the series, upstream's kcmp_test of
# the base, and the script that runs them.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/toolchain.sh
. "$scripts/toolchain.sh"

[ $# -eq 1 ] || die "usage: programs.sh ARCH"
arch=$1
guest=$build/guest/$arch
output=$trees/programs-$arch
sysroot=$cache/sysroot-$(rustc_version)

case $arch in
x86_64) rust_target=x86_64-unknown-linux-gnu cross_gcc=gcc ;;
arm64) rust_target=aarch64-unknown-linux-gnu cross_gcc=aarch64-linux-gnu-gcc ;;
*) die "unknown architecture '$arch': ARCH is x86_64 or arm64" ;;
esac

# kselftests TREE TARGET...: build tools/testing/selftests/kcmp of a tree.
kselftests() {
	local tree=$1
	shift
	mkdir -p "$output/$(basename "$tree")"
	make -C "$tree/tools/testing/selftests/kcmp" --no-print-directory \
		OUTPUT="$output/$(basename "$tree")" ARCH="$arch" LLVM="$llvm" \
		KHDR_INCLUDES="-isystem $output/headers/usr/include" USERLDFLAGS=-static "$@"
}

# A copy of the toolchain by links, with the sources of the library where cargo
# looks for them: it builds the library for the other architecture.
make_sysroot() {
	local dir real
	real=$(rustc --print sysroot)
	rm -rf "$sysroot"
	mkdir -p "$sysroot/lib/rustlib/src/rust"
	for dir in "$real"/lib/*; do
		[ "${dir##*/}" = rustlib ] || ln -s "$dir" "$sysroot/lib/"
	done
	for dir in "$real"/lib/rustlib/*; do
		[ "${dir##*/}" = src ] || ln -s "$dir" "$sysroot/lib/rustlib/"
	done
	ln -s "$rust_src" "$sysroot/lib/rustlib/src/rust/library"
	printf '#!/bin/sh\nexec rustc --sysroot "%s" "$@"\n' "$sysroot" >"$sysroot/rustc"
	chmod +x "$sysroot/rustc"
}

build_programs() {
	kernel_make "$series_tree" "$arch" "$output/headers" headers
	kselftests "$base_tree" "$output/base/kcmp_test"

	local -x RUSTFLAGS="-C target-feature=+crt-static"
	local target_env=${rust_target//-/_} flags=
	local -x "CARGO_TARGET_${target_env^^}_LINKER=$cross_gcc"
	if [ "$arch" != x86_64 ]; then
		make_sysroot
		local -x RUSTC=$sysroot/rustc RUSTC_BOOTSTRAP=1
		flags=-Zbuild-std=std,panic_abort
	fi
	# A commit that bisect-check.sh was at may have had programs that this one has not.
	mkdir -p "$output/$(basename "$series_tree")"
	find "$output/$(basename "$series_tree")" -maxdepth 1 -type f -delete
	kselftests "$series_tree" all CARGO="cargo" CARGO_TARGET="$rust_target" CARGO_FLAGS="$flags"

	rm -rf "$guest"
	mkdir -p "$guest"
	find "$output/series" -maxdepth 1 -type f -executable -exec cp -t "$guest" {} +
	cp "$output/base/kcmp_test" "$scripts/in-guest.sh" "$guest"
}

lock_cache
find_tools
step "programs-$arch" "building the $arch programs" build_programs
