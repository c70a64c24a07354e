# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Rust's standard library for another architecture. Sourced, not run.

# make_rust_sysroot SOURCES TARGET DIR: build the standard library for TARGET from SOURCES, the
# directory "library" of rust-src of the very version of rustc, and make DIR a sysroot with it,
# for rustc --sysroot=DIR --target=TARGET. DIR is not there before it is whole.
#
# cargo takes the sources from the toolchain, which may lack them: give it a copy of the
# toolchain, made of links, that has them. As in Rust's own builds, only the crate panic_abort
# is built for panic=abort, so that programs of either kind can be linked.
make_rust_sysroot() {
	local sources=$1 target=$2 dir=$3 part=$3.part
	local copy=$part/toolchain toolchain entry
	toolchain=$(rustc --print sysroot)

	rm -rf "$part"
	mkdir -p "$copy/lib/rustlib/src/rust" "$part/empty" "$part/sysroot/lib/rustlib/$target/lib"
	for entry in "$toolchain"/lib/*; do
		[ "${entry##*/}" = rustlib ] || ln -s "$entry" "$copy/lib/"
	done
	for entry in "$toolchain"/lib/rustlib/*; do
		[ "${entry##*/}" = src ] || ln -s "$entry" "$copy/lib/rustlib/"
	done
	ln -s "$sources" "$copy/lib/rustlib/src/rust/library"
	cat >"$part/rustc" <<-END
		#!/bin/sh
		case "\$*" in *"--crate-name panic_abort "*) set -- "\$@" -C panic=abort ;; esac
		exec rustc --sysroot="$copy" "\$@"
	END
	chmod +x "$part/rustc"

	printf '[package]\nname = "empty"\n[lib]\npath = "lib.rs"\n' >"$part/empty/Cargo.toml"
	echo '#![no_std]' >"$part/empty/lib.rs"
	RUSTFLAGS='' RUSTC=$part/rustc RUSTC_BOOTSTRAP=1 cargo build --release \
		--manifest-path "$part/empty/Cargo.toml" --target-dir "$part/build" \
		-Zbuild-std=std,panic_abort --target "$target" || return 1
	rm -f "$part/build/$target/release/deps"/libempty-*
	cp "$part/build/$target/release/deps"/*.rlib "$part/sysroot/lib/rustlib/$target/lib" || return 1
	rm -rf "$dir"
	mv "$part/sysroot" "$dir"
	rm -rf "$part"
}
