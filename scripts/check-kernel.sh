# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154,SC2164
#
# The checks of the kernel code by its own tools. What they say about the base is not
# ours. Sourced by check.sh, not run.

# A build directory apart, for what clippy compiles is compiled again without it.
clippy_out=build-x86_64-clippy

# new_findings BASE SERIES: print the findings, known by a line of C that they name, of
# one file that are not in the other. Fails if there are some.
new_findings() {
	awk '!/\.[ch]:[0-9]+/ { next }
		{ line = $0; gsub(/:[0-9]+/, "") }
		FILENAME == ARGV[1] { known[$0]; next }
		!($0 in known) { print line; found = 1 }
		END { exit found }' "$1" "$2"
}

# The objects that the C files of the series are compiled to, but for the helpers of Rust.
c_objects() {
	series_files --diff-filter=M -- '*.c' ':!tools' ':!rust/helpers' | sed 's/c$/o/'
}

# What is compiled already is not checked again: it has to have passed.
check_clippy() {
	local objects dir=$series_tree/$clippy_out
	mapfile -t objects < <(c_objects)
	objects+=(rust/kernel.o kernel/kcmp_epoll.o)
	mkdir -p "$dir"
	[ -e "$dir/passed" ] || (cd "$dir" && rm -f "${objects[@]}")
	rm -f "$dir/passed"
	cat "$series_tree/build-x86_64-rust/.config" "$series_tree/rust/kernel/fs/.kunitconfig" >"$dir/.config"
	kernel_make "$series_tree" x86_64 $clippy_out olddefconfig
	kernel_make "$series_tree" x86_64 $clippy_out CLIPPY=1 W=1 "${objects[@]}" 2>&1 | tee "$build/clippy.out"
	our_findings "$build/clippy.out"
	touch "$dir/passed"
}

# The kernel's target documents all crates. Only the one that is ours is of interest.
check_rustdoc() {
	local rustdoc=$build/rustdoc-kernel
	# shellcheck disable=SC2016 # not expanded here
	printf '%s\n' '#!/bin/sh' 'case " $* " in' '*" --crate-name kernel "*) exec rustdoc "$@" ;;' 'esac' >"$rustdoc"
	chmod +x "$rustdoc"
	kernel_make "$series_tree" x86_64 build-x86_64-rust RUSTDOC="$rustdoc" rustdoc 2>&1 | tee "$build/rustdoc.out"
	our_findings "$build/rustdoc.out"
}

# sparse TREE OUT ARGUMENT...
#
# Debian's sparse does not know all of C that the kernel is written in.
sparse() {
	kernel_make "$1" x86_64 "$2" C=2 \
		CHECK="sparse -D__typeof_unqual__=__typeof__ '-D__builtin_strlen(s)=(sizeof(s) - 1)'" "${@:3}" 2>&1
}

# The lookup in C has to be there: kernels without the one in Rust.
#
# All helpers of Rust are one object. It is checked when it is compiled, and only then,
# and they are inline functions unless it looks as if bindgen read them.
check_sparse() {
	local objects helpers=rust/helpers/helpers.o
	mapfile -t objects < <(c_objects)
	sparse "$base_tree" build-x86_64-base "${objects[@]}" | tee "$build/sparse-base.out"
	sparse "$series_tree" build-x86_64-c "${objects[@]}" | tee "$build/sparse-series.out"
	rm -f "$series_tree/$clippy_out/$helpers"
	sparse "$series_tree" $clippy_out CLIPPY=1 W=1 CF="-D__BINDGEN__ -Wno-decl" $helpers | tee "$build/sparse-helpers.out"
	grep -F "$(series_files -- rust/helpers)" "$build/sparse-helpers.out" >>"$build/sparse-series.out" || true
	new_findings "$build/sparse-base.out" "$build/sparse-series.out"
}

# kernel_doc TREE: check the comments of the C files that the series has to do with.
kernel_doc() {
	cd "$1"
	series_files -- '*.[ch]' | xargs git ls-files -- | xargs scripts/kernel-doc -none -Wall 2>&1
}

check_kernel_doc() {
	kernel_doc "$base_tree" >"$build/kernel-doc-base.out"
	kernel_doc "$series_tree" >"$build/kernel-doc-series.out"
	new_findings "$build/kernel-doc-base.out" "$build/kernel-doc-series.out"
}

# -E, for Sphinx is silent about a page that it knows already.
check_page() {
	kernel_make "$series_tree" x86_64 build-x86_64-rust htmldocs SPHINXDIRS=userspace-api \
		SPHINXOPTS="-q -E -D include_patterns=kcmp.rst -D master_doc=kcmp" 2>&1 | tee "$build/sphinx.out"
	! grep -F kcmp.rst "$build/sphinx.out"
}

# Documentation/refused.rs has to compile, and not to with each of the mistakes in it.
check_refused() {
	local line error mistake tried=0
	local name=kernel/kcmp_refused out=$build/refused.out
	# shellcheck disable=SC2064 # expands now
	trap "rm -f '$series_tree/$name.rs'" EXIT
	cp "$top/Documentation/refused.rs" "$series_tree/$name.rs"

	compile() {
		kernel_make "$series_tree" x86_64 build-x86_64-rust "$@" $name.o 2>&1
	}
	compile
	while read -r line; do
		[[ $line =~ ^//\ (E[0-9]+): ]] && error=${BASH_REMATCH[1]}
		[[ $line =~ cfg\(([a-z_]+)\) ]] || continue
		mistake=${BASH_REMATCH[1]}
		! compile "RUSTFLAGS_${name##*/}.o=--cfg=$mistake" >"$out" || die "$mistake is not refused"
		grep -F "error[$error]" "$out" || { cat "$out" && die "$mistake is refused, but not with $error"; }
		tried=$((tried + 1))
	done <"$top/Documentation/refused.rs"
	[ $tried -gt 0 ]
}
