# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154,SC2164
#
# The checks of check.sh. Findings of the kernel's tools about the base are not ours.

# A build directory apart, for what clippy compiles is compiled again without it.
clippy_out=build-x86_64-clippy

# our_files PATTERN...: the files of this repository.
our_files() {
	git -C "$top" ls-files -- "$@" | sed "s:^:$top/:"
}

check_patches() {
	local commit found=0
	cd "$last_tree"
	for commit in $(series_commits); do
		# FILE_PATH_CHANGES asks of each new file whether MAINTAINERS needs updating.
		scripts/checkpatch.pl --strict --quiet --no-summary --ignore FILE_PATH_CHANGES \
			--git "$commit" && continue
		git log -1 --format='Found in "%s"' "$commit"
		found=1
	done
	return $found
}

# changed_lines COMMIT... -- PATTERN...: how many lines these commits add and remove.
changed_lines() {
	git show --numstat --format= "$@" | awk '{ sum += $1 + $2 } END { print sum + 0 }'
}

# at_most MAX TEXT LINES
at_most() {
	echo "$2: $3 lines changed, $1 at most"
	[ "$3" -le "$1" ] || die "$2: $3 lines changed, $1 at most"
}

# A series that is too long is not reviewed. Tests and documentation do not count, nor does
# the commit that moves structures to fs/eventpoll.h.
check_sizes() {
	local commits code=(':!tools/testing' ':!Documentation') moves
	cd "$last_tree"
	for series in 1-kcmp:60 2-eventpoll:150 3-rust:1400; do
		moves=$(git log --diff-filter=A --format=%H HEAD -- fs/eventpoll.h)
		mapfile -t commits < <(series_commits "${series%:*}" | grep -vxF "$moves")
		at_most "${series#*:}" "${series%:*}" "$(changed_lines "${commits[@]}" -- "${code[@]}")"
	done
	at_most 2000 "the selftests of 3-rust" "$(changed_lines "${commits[@]}" -- tools/testing)"
}

# spdxcheck.py says what is wrong, and succeeds.
check_licenses() {
	local wrong
	cd "$last_tree"
	wrong=$(our_files | xargs scripts/spdxcheck.py 2>&1)
	printf '%s\n' "$wrong"
	[ -z "$wrong" ]
}

# All text that somebody reads: messages, documentation, comments.
check_spelling() {
	our_files ':!COPYING' ':!*.svg' ':!*.lock' | xargs codespell --ignore-words-list filp
}

check_shell() {
	our_files '*.sh' .ci/run | xargs shellcheck -x --source-path="$top"
}

check_rustfmt() {
	our_files '*.rs' ':!tools' | xargs rustfmt --check --edition 2021 --config-path "$base_tree/.rustfmt.toml"
	cargo fmt --all --check --manifest-path "$top/tools/Cargo.toml"
}

check_tools() {
	cargo clippy --manifest-path "$top/tools/Cargo.toml" --workspace --locked --all-targets --quiet \
		--release --target-dir "$build/clippy" -- -D warnings
}

# What is compiled already is not checked again.
check_selftests() {
	local arch=x86_64 output=$build/check-kselftests
	rm -rf "$output/kcmp"
	mkdir -p "$output/kcmp"
	kernel_make "$last_tree" "$arch" "$output/headers" headers
	kselftests "$last_tree" kcmp "$output/kcmp/all" BINDGEN="$bindgen" \
		RUSTC=clippy-driver RUSTFLAGS="-D warnings" USERCFLAGS="-Wextra -Wno-unused-parameter -Wno-sign-compare -Werror"
}

# new_findings BASE SERIES: print the findings, known by a line of C that they name, of
# one file that are not in the other. Fails if there are any.
new_findings() {
	awk '!/\.[ch]:[0-9]+/ { next }
		{ line = $0; gsub(/:[0-9]+/, "") }
		FILENAME == ARGV[1] { known[$0]; next }
		!($0 in known) { print line; found = 1 }
		END { exit found }' "$1" "$2"
}

# The objects that the C files of the series are compiled to.
c_objects() {
	series_files --diff-filter=M -- '*.c' ':!tools' | sed 's/c$/o/'
}

# What is compiled already is not checked again: it has to have passed.
check_clippy() {
	local objects dir=$last_tree/$clippy_out
	mapfile -t objects < <(c_objects)
	objects+=(rust/kernel.o kernel/kcmp_epoll.o)
	mkdir -p "$dir"
	[ -e "$dir/passed" ] || (cd "$dir" && rm -f "${objects[@]}")
	rm -f "$dir/passed"
	cat "$last_tree/build-x86_64-rust/.config" "$last_tree/$kunit_tests" >"$dir/.config"
	kernel_make "$last_tree" x86_64 $clippy_out olddefconfig
	kernel_make "$last_tree" x86_64 $clippy_out CLIPPY=1 W=1 "${objects[@]}" 2>&1 | tee "$build/clippy.out"
	our_findings "$build/clippy.out"
	touch "$dir/passed"
}

# The kernel's target documents all crates. Only the one that is ours is of interest.
check_rustdoc() {
	local rustdoc=$build/rustdoc-kernel
	# shellcheck disable=SC2016 # not expanded here
	printf '%s\n' '#!/bin/sh' 'case " $* " in' '*" --crate-name kernel "*) exec rustdoc "$@" ;;' 'esac' >"$rustdoc"
	chmod +x "$rustdoc"
	kernel_make "$last_tree" x86_64 build-x86_64-rust RUSTDOC="$rustdoc" rustdoc 2>&1 | tee "$build/rustdoc.out"
	our_findings "$build/rustdoc.out"
}

# kselftest/refused.rs has to compile, and not to with each of the mistakes in it.
check_refused() {
	local line error mistake tried=0
	local name=kernel/kcmp_refused out=$build/refused.out source=$top/kselftest/refused.rs
	# shellcheck disable=SC2064 # expands now
	trap "rm -f '$last_tree/$name.rs'" EXIT
	cp "$source" "$last_tree/$name.rs"

	compile() {
		kernel_make "$last_tree" x86_64 build-x86_64-rust "$@" $name.o 2>&1
	}
	compile
	while read -r line; do
		[[ $line =~ ^//\ (E[0-9]+): ]] && error="error[${BASH_REMATCH[1]}]"
		[[ $line =~ ^//\ (error:\ [a-z ]+): ]] && error=${BASH_REMATCH[1]}
		[[ $line =~ cfg\(([a-z_]+)\) ]] || continue
		mistake=${BASH_REMATCH[1]}
		! compile "RUSTFLAGS_${name##*/}.o=--cfg=$mistake" >"$out" || die "$mistake is not refused"
		grep -F "$error" "$out" || { cat "$out" && die "$mistake is refused, but not with $error"; }
		tried=$((tried + 1))
	done <"$source"
	[ $tried -gt 0 ]
}

# sparse TREE OUT ARGUMENT...
#
# Debian's sparse does not know all of C that the kernel is written in.
sparse() {
	kernel_make "$1" x86_64 "$2" C=2 \
		CHECK="sparse -D__typeof_unqual__=__typeof__ '-D__builtin_strlen(s)=(sizeof(s) - 1)'" "${@:3}" 2>&1
}

# The lookup in C has to be there: a kernel without the one in Rust.
check_sparse() {
	local objects
	mapfile -t objects < <(c_objects)
	sparse "$base_tree" build-x86_64-base "${objects[@]}" | tee "$build/sparse-base.out"
	sparse "$last_tree" build-x86_64-norust "${objects[@]}" | tee "$build/sparse-series.out"
	new_findings "$build/sparse-base.out" "$build/sparse-series.out"
}

# The comments of the C files that the series have to do with.
check_kernel_doc() {
	cd "$last_tree"
	series_files -- '*.[ch]' | xargs scripts/kernel-doc -none -Wall -Werror
}

# -E, for Sphinx is silent about a page that it knows already.
check_page() {
	kernel_make "$last_tree" x86_64 build-x86_64-rust htmldocs SPHINXDIRS=userspace-api \
		SPHINXOPTS="-q -E -D include_patterns=kcmp.rst -D master_doc=kcmp" 2>&1 | tee "$build/sphinx.out"
	! grep -F kcmp.rst "$build/sphinx.out"
}
