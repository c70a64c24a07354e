# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# Which compilers and tools build the kernels.

# The kernel asks for less: these are what the series are tested with.
clang_min=19
bindgen_pinned=0.72.1
virtme_pinned=1.42

venv=$cache/virtme-ng-$virtme_pinned

# All trees share what ccache keeps: their build directories are right below them, and
# thus named by the same relative paths.
export CCACHE_DIR=$cache/ccache CCACHE_MAXSIZE=10G CCACHE_NOHASHDIR=1 CCACHE_BASEDIR=$cache

# version_ge A B: true if version A is B or newer.
version_ge() {
	[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# The oldest version of a tool that the kernel takes.
kernel_min() {
	"$base_tree/scripts/min-tool-version.sh" "$1"
}

# Print the suffix of the LLVM tools to use ("", "-19", ...); fail if none will do.
llvm_suffix() {
	local suffix tool version
	for suffix in "" $(compgen -c clang- | sed -n 's/^clang\(-[0-9]\+\)$/\1/p' | sort -Vru); do
		for tool in clang ld.lld llvm-ar llvm-nm llvm-objcopy llvm-strip; do
			type -P "$tool$suffix" >/dev/null || continue 2
		done
		version=$("clang$suffix" -dumpversion)
		if [ "${version%%.*}" -ge "$clang_min" ]; then
			printf '%s\n' "$suffix"
			return
		fi
	done
	return 1
}

# Print the version of rustc, without a suffix such as -nightly.
rustc_version() {
	rustc --version | sed -E 's/^rustc ([0-9.]+).*/\1/'
}

# Print the path of the bindgen to use; fail if none will do.
find_bindgen() {
	local path
	for path in "$(command -v bindgen || true)" "$cache/bindgen-$bindgen_pinned/bin/bindgen"; do
		[ -x "$path" ] || continue
		if version_ge "$("$path" --version | cut -d ' ' -f 2)" "$(kernel_min bindgen)"; then
			printf '%s\n' "$path"
			return
		fi
	done
	return 1
}

# Print the directory of the sources of Rust's library that belong to this rustc; fail if
# there is none.
find_rust_src() {
	local path
	for path in "$(rustc --print sysroot)/lib/rustlib/src/rust/library" \
		"$cache/rust-src-$(rustc_version)/library"; do
		if [ -d "$path/core" ]; then
			printf '%s\n' "$path"
			return
		fi
	done
	return 1
}

# kernel_make TREE ARCH OUT TARGET...: the kernel's make with these tools, in the
# directory OUT of the tree.
kernel_make() {
	local tree=$1 arch=$2 out=$3
	shift 3
	make -C "$tree" O="$out" ARCH="$arch" "${kernel_options[@]}" \
		LOCALVERSION="-$(series_of "$tree")" --no-print-directory -j"$(nproc)" "$@"
}

# Sets what kernel_make() needs.
find_tools() {
	local suffix
	suffix=$(llvm_suffix) || die "no clang $clang_min or newer: run 'make setup'"
	bindgen=$(find_bindgen) || die "no bindgen: run 'make setup'"
	rust_src=$(find_rust_src) || die "no rust-src $(rustc_version): run 'make setup'"
	llvm=${suffix:-1}
	clang=clang$suffix
	kernel_options=(LLVM="$llvm" CC="ccache $clang" BINDGEN="$bindgen" RUST_LIB_SRC="$rust_src"
		KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=user KBUILD_BUILD_HOST=host)
}
