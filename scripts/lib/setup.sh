# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
#
# Sees to it that everything is there to build and boot kernels: packages, the base tree,
# tools. Installs only what is missing, and says what.

# Print the packages that are missing, one a line. Each is known by a command or a file.
missing_packages() {
	local need="bc bison flex gcc git make perl rsync ccache flock:util-linux xz:xz-utils
		udevadm:udev ip:iproute2 ps:procps debootstrap /usr/include/gelf.h:libelf-dev
		/usr/include/stdio.h:libc6-dev"
	local item arch

	for arch; do
		case $arch in
		x86_64)
			# Not gcc-multilib: it conflicts with the compilers of other architectures.
			need+=" qemu-system-x86_64:qemu-system-x86 /usr/include/gnu/stubs-32.h:libc6-dev-i386
				/usr/lib/gcc/x86_64-linux-gnu/$(gcc_major)/32:lib32gcc-$(gcc_major)-dev"
			;;
		arm64)
			need+=" qemu-system-aarch64:qemu-system-arm aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu
				/usr/aarch64-linux-gnu/include/stdio.h:libc6-dev-arm64-cross"
			;;
		esac
	done
	for item in $need; do
		[ -e "${item%:*}" ] || command -v "${item%:*}" >/dev/null || echo "${item#*:}"
	done

	llvm_suffix >/dev/null || printf '%s\n' "clang-$clang_min" "lld-$clang_min" "llvm-$clang_min"
	# bindgen loads it at run time.
	compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || echo "libclang-$clang_min-dev"
	python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
	if ! command -v rustc >/dev/null || ! command -v cargo >/dev/null; then
		printf '%s\n' rustc cargo rust-src
	fi
}

# Debian's own, if there is no gcc yet.
gcc_major() {
	gcc -dumpversion 2>/dev/null | cut -d . -f 1 | grep . ||
		apt-cache depends gcc | sed -n 's/.*Depends: gcc-\([0-9]*\).*/\1/p' | head -n 1
}

# The sources of Rust's library, of the very version of rustc: Debian's package.
fetch_rust_src() {
	local version dir part
	version=$(rustc_version)
	dir=$cache/rust-src-$version
	part=$dir.part

	rm -rf "$part"
	mkdir -p "$part"
	download download rust-src "^${version//./\\.}[+-]" "$part" ||
		die "Debian has no rust-src $version: add the toolchain's own, or use another rustc"
	dpkg-deb -x "$part"/*.deb "$part/deb"
	mv "$part/deb/usr/src/rustc-$version/library" "$part/library"
	rm -rf "$part/deb" "$part"/*.deb
	mv "$part" "$dir"
}

fetch_bindgen() {
	local dir=$cache/bindgen-$bindgen_pinned
	rm -rf "$dir.part"
	cargo install bindgen-cli --locked --version "$bindgen_pinned" --root "$dir.part" \
		--target-dir "$dir.part/target" ||
		die "bindgen $bindgen_pinned cannot be installed by cargo: no network? The log is $build/log/bindgen.log"
	rm -rf "$dir.part/target"
	mv "$dir.part" "$dir"
}

# set_up ARCH...: for these architectures; um counts as one.
set_up() {
	local arch missing candidate
	for arch; do
		[ "$arch" = um ] || kernel_image rust "$arch" >/dev/null
	done
	[ "$(uname -m)" = x86_64 ] || die "the build machine has to be x86_64; this is $(uname -m)"
	check_space 1

	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
	make_base
	version_ge "$(rustc_version)" "$(kernel_min rustc)" ||
		die "rustc $(rustc_version) is too old: Linux $base_version needs $(kernel_min rustc) or newer"
	find_rust_src >/dev/null ||
		step rust-src "fetching the sources of Rust's library $(rustc_version) into the cache" fetch_rust_src
	if ! find_bindgen >/dev/null; then
		candidate=$(apt-cache policy bindgen | sed -n 's/^  Candidate: \([0-9][^+~-]*\).*/\1/p')
		if version_ge "$candidate" "$(kernel_min bindgen)"; then
			install_packages bindgen
		else
			step bindgen "installing bindgen $bindgen_pinned into the cache" fetch_bindgen
		fi
	fi
	install_python "$venv" "virtme-ng==$virtme_pinned"
	find_tools
}
