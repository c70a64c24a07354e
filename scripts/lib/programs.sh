# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
#
# Builds what runs in guests, statically linked, into build/guest/ARCH/: the kselftests of
# the series, two of the base, the tools of this repository, and scripts/guest/.

# kselftests TREE DIR TARGET OPTION...: build TARGET in tools/testing/selftests/DIR of a tree.
kselftests() {
	make -C "$1/tools/testing/selftests/$2" --no-print-directory OUTPUT="${3%/*}" ARCH="$arch" \
		LLVM="$llvm" KHDR_INCLUDES="-isystem $output/headers/usr/include" USERLDFLAGS=-static \
		"${@:4}" "${3/%\/all/all}"
}

build_kselftests() {
	local tree=${only_tree:-$last_tree} dir
	# Other commits may have had other programs.
	rm -rf "$output/kcmp"
	for dir in kcmp base 32; do
		mkdir -p "$output/$dir"
	done
	kernel_make "$tree" "$arch" "$output/headers" headers
	kselftests "$tree" kcmp "$output/kcmp/all" RUSTC="${rustc[*]}" BINDGEN="$bindgen"
	kselftests "$base_tree" kcmp "$output/base/kcmp_test"
	kselftests "$base_tree" filesystems/epoll "$output/base/epoll_wakeup_test"
	[ "$arch" != x86_64 ] || [ ! -e "$output/kcmp/kcmp_epoll_tfd_test" ] || kselftests "$tree" kcmp \
		"$output/32/kcmp_epoll_tfd_test" USERCFLAGS=-m32
}

build_tools() {
	local variable=CARGO_TARGET_${rust_target^^}
	local -x "${variable//-/_}_LINKER=$linker" RUSTFLAGS="-C target-feature=+crt-static $rust_flags"
	cargo build --manifest-path "$top/tools/Cargo.toml" --release --locked \
		--target "$rust_target" --target-dir "$output/tools"
}

make_programs() {
	local guest=$build/guest/$arch
	local linker=gcc rust_target=x86_64-unknown-linux-gnu rust_flags='' rustc=()
	if [ "$arch" = arm64 ]; then
		rust_target=aarch64-unknown-linux-gnu linker=aarch64-linux-gnu-gcc
		rust_flags="--sysroot=$(rust_sysroot)"
	fi
	# shellcheck disable=SC2206 # these are words
	rustc=(rustc --target="$rust_target" -C linker="$linker" -C target-feature=+crt-static $rust_flags)
	build_kselftests
	build_tools

	rm -rf "$guest"
	mkdir -p "$guest"
	find "$output/kcmp" "$output/tools/$rust_target/release" -maxdepth 1 -type f -executable \
		-exec cp -t "$guest" {} +
	[ "$arch" != x86_64 ] || cp "$output/32/kcmp_epoll_tfd_test" "$guest/kcmp_epoll_tfd_test_32"
	cp "$output"/base/{kcmp_test,epoll_wakeup_test} "$top"/scripts/guest/* "$guest"
}

# build_programs ARCH: build all of them for an architecture.
build_programs() {
	local arch=$1 output=$trees/programs-$1
	step "programs-$arch" "building the $arch programs" make_programs
}
