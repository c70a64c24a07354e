# SPDX-License-Identifier: GPL-2.0
# The checks of check.sh. Findings of the kernel's tools about the base are ignored.

# our_files PATTERN...: print the files of this repository that match, or all.
our_files() {
	git -C "$top" ls-files -- "$@" | sed "s:^:$top/:"
}

check_patches() {
	local commit found=0
	cd "$last_tree"
	for commit in $(series_commits); do
		# The series leave MAINTAINERS alone; the base tree lacks the commits in Fixes: tags.
		git format-patch -1 --stdout "$commit" | { "$lib/results.py" fill 2>/dev/null || true; } |
			scripts/checkpatch.pl --strict --quiet --no-summary --no-signoff \
				--ignore FILE_PATH_CHANGES,UNKNOWN_COMMIT_ID - && continue
		git log -1 --format='Found in "%s"' "$commit"
		found=1
	done
	return $found
}

# spdxcheck.py exits with 0 even on errors.
check_licenses() {
	cd "$last_tree"
	! our_files | xargs scripts/spdxcheck.py 2>&1 | grep .
}

# In all text: commit messages, documentation, comments.
check_spelling() {
	our_files ':!COPYING' ':!*.svg' ':!*.lock' | xargs codespell --ignore-words-list filp,ond
}

check_shell() {
	our_files '*.sh' .ci/run | xargs shellcheck
}

check_rustfmt() {
	our_files '*.rs' ':!tools' ':!tests/rust' | xargs rustfmt --check --edition 2021 --config-path "$base_tree/.rustfmt.toml"
	cargo fmt --all --check --manifest-path "$top/tools/Cargo.toml"
}

check_tools() {
	BINDGEN=$bindgen cargo clippy --manifest-path "$top/tools/Cargo.toml" --workspace --locked --all-targets \
		--quiet --release --target-dir "$build/clippy" -- -D warnings
}

# Remove the programs of the last run: what is up to date is not compiled, nor checked.
check_selftests() {
	local arch=x86_64 output=$build/check-kselftests headers="-isystem $build/headers/usr/include"
	rm -rf "$output"
	kernel_make "$last_tree" "$arch" "$build/headers" headers
	kselftests "$last_tree" kcmp "$output" RUSTC=clippy-driver RUSTFLAGS="-D warnings" \
		USERCFLAGS="-Wextra -Wno-unused-parameter -Wno-sign-compare -Werror"
}

# Print the objects of the C files that the series change.
c_objects() {
	series_files --diff-filter=M -- '*.c' ':!tools' | sed 's/c$/o/'
}

# checked_make FILE ARGUMENT...: run kernel_make, and fail on findings about the series.
checked_make() {
	kernel_make "$last_tree" x86_64 "${@:2}" 2>&1 | tee "$build/$1.out"
	our_findings "$build/$1.out"
}

# Uses a build directory of its own: without clippy, objects would be compiled again. What is up
# to date is not checked again, so remove it unless it passed the last time.
check_clippy() {
	local objects out=build-x86_64-clippy dir=$last_tree/build-x86_64-clippy
	mapfile -t objects < <(c_objects)
	objects+=(rust/kernel.o kernel/kcmp_epoll.o)
	mkdir -p "$dir"
	[ -e "$dir/passed" ] || (cd "$dir" && rm -f "${objects[@]}")
	rm -f "$dir/passed"
	cat "$last_tree/build-x86_64-rust/.config" "$last_tree/$kunit_tests" >"$dir/.config"
	kernel_make "$last_tree" x86_64 $out olddefconfig
	checked_make clippy $out CLIPPY=1 W=1 "${objects[@]}"
	touch "$dir/passed"
}

# Document only the kernel crate.
check_rustdoc() {
	local rustdoc=$build/rustdoc-kernel
	# shellcheck disable=SC2016 # not expanded here
	printf '%s\n' '#!/bin/sh' 'case " $* " in' '*" --crate-name kernel "*) exec rustdoc "$@" ;;' 'esac' >"$rustdoc"
	chmod +x "$rustdoc"
	checked_make rustdoc build-x86_64-rust RUSTDOC="$rustdoc" rustdoc
}

# tests/refused.rs must compile as it is, and must not with any of its mistakes.
check_refused() {
	local line error mistake name=kernel/kcmp_refused out=$build/refused.out source=$top/tests/refused.rs
	# shellcheck disable=SC2064 # expands now
	trap "rm -f '$last_tree/$name.rs'" EXIT
	cp "$source" "$last_tree/$name.rs"

	compile() {
		kernel_make "$last_tree" x86_64 build-x86_64-rust "$@" $name.o 2>&1
	}
	compile
	while read -r line; do
		[[ $line =~ ^//\ (E[0-9]+|error:\ [a-z ]+): ]] && error=${BASH_REMATCH[1]}
		[[ $line =~ cfg\(([a-z_]+)\) ]] || continue
		mistake=${BASH_REMATCH[1]}
		! compile "RUSTFLAGS_${name##*/}.o=--cfg=$mistake" >"$out" || die "the compiler accepts $mistake"
		grep -F "$error" "$out" || { cat "$out" && die "$mistake is rejected, but not with $error"; }
	done <"$source"
	[ -n "$mistake" ]
}

# sparse TREE KIND: print findings about the C files of the series. Debian's lacks some builtins.
sparse() {
	kernel_make "$1" x86_64 "build-x86_64-$2" C=2 $(c_objects) \
		CHECK="sparse -D__typeof_unqual__=__typeof__ '-D__builtin_strlen(s)=(sizeof(s) - 1)'" 2>&1 |
		sed -nE '/\.[ch]:[0-9]+/ s/:[0-9]+//gp' | sort -u
}

# Uses a kernel without the lookup in Rust, which would compile out the one in C.
check_sparse() {
	sparse "$base_tree" base >"$build/sparse-base.out"
	sparse "$last_tree" norust >"$build/sparse-series.out"
	! comm -13 "$build"/sparse-{base,series}.out | grep .
}

# In the C files that the series add or change.
check_kernel_doc() {
	cd "$last_tree"
	series_files -- '*.[ch]' | xargs scripts/kernel-doc -none -Wall -Werror
}

# -E: Sphinx does not repeat warnings about a page that it has cached.
check_page() {
	kernel_make "$last_tree" x86_64 build-x86_64-rust htmldocs SPHINXDIRS=userspace-api \
		SPHINXOPTS="-q -E -D include_patterns=kcmp.rst -D master_doc=kcmp" 2>&1 | tee "$build/sphinx.out"
	! grep -F kcmp.rst "$build/sphinx.out"
}

check_man_page() {
	local page=$trees/man-pages/man/man2/kcmp.2
	mandoc -T lint -W warning "$page"
	! groff -man -t -ww -rCHECKSTYLE=3 -z -T utf8 "$page" 2>&1 | grep .
}
