# SPDX-License-Identifier: GPL-2.0
# The compilers and tools that build the kernels.

# The kernel also builds with older ones: the series are tested with these.
clang_min=19
bindgen_pinned=0.72.1
virtme_pinned=1.42
bindgen_dir=$cache/bindgen-$bindgen_pinned
bindgen=$bindgen_dir/bin/bindgen
venv=$cache/virtme-ng-$virtme_pinned

# All trees share the ccache: their build directories have the same relative paths.
export CCACHE_DIR=$cache/ccache CCACHE_MAXSIZE=10G CCACHE_NOHASHDIR=1 CCACHE_BASEDIR=$cache

# version_ge A B: true if version A is B or newer.
version_ge() {
	printf '%s\n%s\n' "$2" "$1" | sort -CV
}

# Print the suffix of the LLVM tools to use ("", "-19", ...); fail if none will do.
llvm_suffix() {
	local suffix tool
	for suffix in "" $(compgen -c clang- | sed -n 's/^clang\(-[0-9]\+\)$/\1/p' | sort -Vru); do
		for tool in clang ld.lld llvm-ar llvm-nm llvm-objcopy llvm-strip; do
			type -P "$tool$suffix" >/dev/null || continue 2
		done
		version_ge "$("clang$suffix" -dumpversion)" "$clang_min" || continue
		echo "$suffix"
		return
	done
	return 1
}

# Print the version, without a suffix such as -nightly.
rustc_version() {
	rustc --version | sed -E 's/^rustc ([0-9.]+).*/\1/'
}

# Sets what kernel_make() needs.
find_tools() {
	llvm=$(llvm_suffix)
	clang=clang$llvm
	llvm=${llvm:-1}
	rust_src=$(rustc --print sysroot)/lib/rustlib/src/rust/library
	[ -d "$rust_src/core" ] || rust_src=$cache/rust-src-$(rustc_version)/library
	kernel_options=(LLVM="$llvm" CC="ccache $clang" BINDGEN="$bindgen" RUST_LIB_SRC="$rust_src"
		KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=user KBUILD_BUILD_HOST=host)
}

# kernel_make TREE ARCH OUT TARGET...: build these targets of the tree in its directory OUT.
kernel_make() {
	make -C "$1" O="$3" ARCH="$2" "${kernel_options[@]}" LOCALVERSION="-$(series_of "$1")" \
		--no-print-directory -j"$(nproc)" "${@:4}"
}
