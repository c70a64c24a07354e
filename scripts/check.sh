#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check.sh: formatting and lint of all that is here: checkpatch.pl for each patch,
# rustfmt, clippy for the kernel code and for the programs, shellcheck.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/toolchain.sh
. "$scripts/toolchain.sh"
# shellcheck source=scripts/packages.sh
. "$scripts/packages.sh"

# What spdxcheck.py, which checkpatch.pl calls, is made of.
spdx_python=$cache/spdxcheck-python

check_patches() {
	local patch status=0 PATH=$spdx_python/bin:$PATH
	"$scripts/series.sh" mails
	for patch in "$build"/series/*.patch; do
		# FILE_PATH_CHANGES asks of each new file whether MAINTAINERS needs updating.
		"$series_tree/scripts/checkpatch.pl" --root="$series_tree" --strict --quiet \
			--no-summary --ignore FILE_PATH_CHANGES "$patch" || status=1
	done
	return $status
}

rust_files() {
	git -C "$top" ls-files '*.rs'
}

check_rustfmt() {
	rust_files | (cd "$top" && xargs rustfmt --check --edition 2021 \
		--config-path "$base_tree/.rustfmt.toml")
}

# Only our files count: what the base tree says is not ours.
check_kernel_clippy() {
	local out=build-x86_64-clippy
	mkdir -p "$series_tree/$out"
	cat "$series_tree/build-x86_64-rust/.config" "$series_tree/rust/kernel/fs/.kunitconfig" \
		>"$series_tree/$out/.config"
	kernel_make "$series_tree" x86_64 "$out" olddefconfig
	kernel_make "$series_tree" x86_64 "$out" CLIPPY=1 W=1 \
		rust/kernel.o kernel/kcmp_epoll.o kernel/kcmp.o fs/eventpoll.o 2>&1 | tee "$build/clippy.out"
	! grep -E -A 4 '^(warning|error)' "$build/clippy.out" |
		grep -E 'kcmp|eventpoll|interop/rbtree|fs/file\.rs|kernel/task\.rs'
}

check_programs() {
	(cd "$top/kselftest/rust" && cargo clippy --quiet --release --all-targets \
		--target-dir "$build/clippy" -- -D warnings)
}

check_shell() {
	(cd "$top" && git ls-files '*.sh' .ci/run | xargs shellcheck -x)
}

lock_cache
"$scripts/setup.sh" x86_64
type -P shellcheck >/dev/null || install_packages shellcheck
for tool in rustfmt clippy-driver; do
	type -P $tool >/dev/null && $tool --version >/dev/null 2>&1 && continue
	[ "$(type -P rustc)" = /usr/bin/rustc ] ||
		die "$tool is missing: add it to the Rust toolchain, by 'rustup component add rustfmt clippy'"
	install_packages rustfmt rust-clippy
done
install_python "$spdx_python" ply GitPython
"$scripts/trees.sh" series
find_tools
step check-patches "checkpatch.pl --strict on each patch" check_patches
step check-rustfmt "rustfmt" check_rustfmt
step check-shell "shellcheck" check_shell
step check-programs "clippy on the programs" check_programs
"$scripts/kernel.sh" x86_64 rust
step check-clippy "CLIPPY=1 W=1 on the kernel code" check_kernel_clippy
