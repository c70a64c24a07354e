# SPDX-License-Identifier: GPL-2.0
# Builds Rust's standard library for another architecture.

# make_rust_sysroot SOURCES TARGET DIR: build the library for TARGET from SOURCES, as Rust's own
# builds do, and make DIR a sysroot with it, for rustc --sysroot=DIR --target=TARGET.
make_rust_sysroot() {
	local target=$2 part=$3.part copy=$3.part/toolchain
	rm -rf "$part" "$3"
	mkdir -p "$copy" "$part/sysroot/lib/rustlib/$target/lib"
	# cargo takes the sources from the toolchain: make one of symlinks that has them.
	cp -rs "$(rustc --print sysroot)/lib" "$copy"
	rm -rf "$copy/lib/rustlib/src"
	mkdir -p "$copy/lib/rustlib/src/rust"
	ln -s "$1" "$copy/lib/rustlib/src/rust/library"
	# Only build panic_abort with panic=abort: programs with either strategy can then be linked.
	cat >"$part/rustc" <<-END
		#!/bin/sh
		case "\$*" in *"--crate-name panic_abort "*) set -- "\$@" -C panic=abort ;; esac
		exec rustc --sysroot="$copy" "\$@"
	END
	chmod +x "$part/rustc"

	printf '[package]\nname = "empty"\n[lib]\npath = "lib.rs"\n' >"$part/Cargo.toml"
	echo '#![no_std]' >"$part/lib.rs"
	RUSTFLAGS='' RUSTC=$part/rustc RUSTC_BOOTSTRAP=1 cargo build --release -Zbuild-std=std,panic_abort \
		--manifest-path "$part/Cargo.toml" --target-dir "$part/build" --target "$target"
	rm -f "$part/build/$target/release/deps"/libempty-*
	cp "$part/build/$target/release/deps"/*.rlib "$part/sysroot/lib/rustlib/$target/lib"
	mv "$part/sysroot" "$3"
	rm -rf "$part"
}
