# SPDX-License-Identifier: GPL-2.0
# Installs the packages, the base tree and the tools that building and booting kernels needs.
# Only those that are missing, which it lists.

# Print the packages for these architectures, as install_packages() takes them.
needed_packages() {
	local gcc
	gcc=$( (gcc -dumpversion || apt-cache depends gcc | sed -n 's/.* gcc-\([0-9]\+\)$/\1/p') 2>/dev/null) || true
	awk -v archs=" $* " -v gcc="$gcc" '!/^#/ && (NF == 2 || index(archs, " " $3 " ")) {
		gsub(/GCC/, gcc)
		print $1 ":" $2
	}' "$lib/needed-packages"
	# bindgen loads it at run time.
	compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || echo "libclang-$clang_min-dev"
	llvm_suffix >/dev/null || echo "clang-$clang_min lld-$clang_min llvm-$clang_min"
	python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
}

# Fetch the sources of Rust's library, of exactly this rustc's version, from Debian.
fetch_rust_src() {
	local part=$rust_src.part version
	version=$(rustc_version)
	rm -rf "$part"
	mkdir -p "$part"
	download download rust-src "\\| ${version//./\\.}[+-]" "$part" ||
		die "Debian has no rust-src $version: run 'rustup component add rust-src'"
	dpkg-deb -x "$part"/*.deb "$part"
	mv "$part/usr/src/rustc-$version/library" "$rust_src"
	rm -rf "$part"
}

fetch_bindgen() {
	rm -rf "$bindgen_dir.part"
	cargo install bindgen-cli --locked --version "$bindgen_pinned" --root "$bindgen_dir.part" ||
		die "cargo cannot install bindgen $bindgen_pinned: no network? The log is $build/log/bindgen.log"
	mv "$bindgen_dir.part" "$bindgen_dir"
}

# set_up ARCH...: install what these architectures need; um counts as one.
set_up() {
	local arch rustc_min
	for arch; do
		[ "$arch" = um ] || kernel_image rust "$arch" >/dev/null
	done
	[ "$(uname -m)" = x86_64 ] || die "the build machine must be x86_64, not $(uname -m)"
	check_space 1

	install_packages $(needed_packages "$@")
	make_base
	rustc_min=$("$base_tree/scripts/min-tool-version.sh" rustc)
	version_ge "$(rustc_version)" "$rustc_min" ||
		die "rustc $(rustc_version) is too old: Linux $base_version needs $rustc_min or newer, which rustup installs"
	find_tools
	[ -d "$rust_src" ] ||
		step rust-src "fetching the sources of Rust's library $(rustc_version) into the cache" fetch_rust_src
	[ -d "$bindgen_dir" ] ||
		step bindgen "installing bindgen $bindgen_pinned into the cache" fetch_bindgen
	install_python "$venv" "virtme-ng==$virtme_pinned"
}
