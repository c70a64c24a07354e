# SPDX-License-Identifier: GPL-2.0
# Builds the programs that run in guests, statically linked, in build/guest/ARCH/: the kselftests
# of the series, two of the base, and the tests and tools of this repository. Copies scripts/guest/,
# too.

# build_programs ARCH: build all of them for an architecture.
build_programs() {
	local arch=$1 output=$trees/programs-$1 target=x86_64-unknown-linux-gnu linker=gcc sysroot
	sysroot=$(rustc --print sysroot)
	if [ "$arch" = arm64 ]; then
		target=aarch64-unknown-linux-gnu linker=aarch64-linux-gnu-gcc
		sysroot=$cache/sysroot-$target-$(rustc_version)
		[ -d "$sysroot" ] || step rust-sysroot "building Rust's library for arm64" \
			make_rust_sysroot "$rust_src" $target "$sysroot"
	fi
	step "programs-$arch" "building the $arch programs" make_programs
}

# kselftests TREE DIR OUTPUT [ARGUMENT...]: run make in tools/testing/selftests/DIR of a tree, or
# in DIR here, with the tree's lib.mk.
kselftests() {
	local selftests=$1/tools/testing/selftests
	mkdir -p "$3"
	make -C "$(cd "$selftests" && cd "$2" && pwd)" KSELFTEST="$selftests" --no-print-directory OUTPUT="$3" ARCH="$arch" LLVM="$llvm" \
		KHDR_INCLUDES="$headers" USERLDFLAGS=-static BINDGEN="$bindgen" "${@:4}"
}

make_programs() {
	local tree=${only_tree:-$last_tree} guest=$build/guest/$arch variable=CARGO_TARGET_${target^^}_LINKER
	local headers="-isystem $output/headers/usr/include" program name
	# The last run may have built another commit.
	rm -rf "$output"/{kcmp,base,c,32} "$guest"
	kernel_make "$tree" "$arch" "$output/headers" headers
	kselftests "$tree" kcmp "$output/kcmp" RUSTFLAGS="--sysroot=$sysroot -C target-feature=+crt-static"
	kselftests "$base_tree" "$top/tests/c" "$output/c"
	kselftests "$base_tree" kcmp "$output/base" "$output/base/kcmp_test"
	kselftests "$base_tree" filesystems/epoll "$output/base" USERCFLAGS="-include $lib/longer-timeout.h"
	mkdir -p "$guest"
	env "${variable//-/_}=$linker" RUSTFLAGS="--sysroot=$sysroot -C target-feature=+crt-static" \
		BINDGEN="$bindgen" KHDR_INCLUDES="$headers" cargo build --manifest-path "$top/tools/Cargo.toml" \
		--release --locked --bins --test lsepoll_test --target $target --target-dir "$output/tools" \
		--message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' |
		while read -r program; do
			name=${program##*/}
			cp "$program" "$guest/${name%-????????????????}"
		done
	find "$output"/{kcmp,c} -maxdepth 1 -type f -executable -exec cp -t "$guest" {} +
	cp "$output"/base/{kcmp_test,epoll_wakeup_test} "$top"/scripts/guest/* "$guest"
	if [ "$arch" = x86_64 ]; then
		kselftests "$base_tree" "$top/tests/c" "$output/32" "$output/32/kcmp_epoll_cases_test" USERCFLAGS=-m32
		cp "$output/32/kcmp_epoll_cases_test" "$guest/kcmp_epoll_cases_test_32"
	fi
}

# Add CRIU's own tests of epoll to the programs, from the release that the guests have.
make_zdtm() {
	local dir=$trees/programs-x86_64/criu
	if [ ! -e "$dir/complete" ]; then
		rm -rf "$dir"
		mkdir -p "$dir"
		download "source --tar-only --download-only" criu Sources "$dir" ||
			die "Debian $guest_suite has no source of criu"
		tar -xf "$dir"/criu_*.orig.tar.* -C "$dir" --strip-components=1
		make -C "$dir/test/zdtm/static" LDFLAGS=-static epoll epoll01 scm05
		make -C "$dir/test/zdtm/transition" LDFLAGS=-static epoll
		touch "$dir/complete"
	fi
	mkdir -p "$build"/guest/x86_64/zdtm/{static,transition}
	cp "$dir"/test/zdtm/static/{epoll,epoll01,scm05} "$build/guest/x86_64/zdtm/static"
	cp "$dir/test/zdtm/transition/epoll" "$build/guest/x86_64/zdtm/transition"
}
