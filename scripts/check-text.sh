# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154,SC2164
#
# The checks that need no kernel build. Sourced by check.sh, not run.

# our_files PATTERN...: the files of this repository.
our_files() {
	git -C "$top" ls-files -- "$@" | sed "s:^:$top/:"
}

check_patches() {
	local commit status=0
	cd "$series_tree"
	for commit in $(series_commits); do
		# FILE_PATH_CHANGES asks of each new file whether MAINTAINERS needs updating.
		scripts/checkpatch.pl --strict --quiet --no-summary --ignore FILE_PATH_CHANGES \
			--git "$commit" && continue
		git log -1 --format='Found in "%s"' "$commit"
		status=1
	done
	return $status
}

# spdxcheck.py says what is wrong, and succeeds.
check_licenses() {
	local wrong
	cd "$series_tree"
	wrong=$(our_files | xargs scripts/spdxcheck.py 2>&1)
	printf '%s\n' "$wrong"
	[ -z "$wrong" ]
}

# All text that somebody reads: messages, documentation, comments.
check_spelling() {
	our_files ':!COPYING' ':!*.svg' | xargs codespell --ignore-words-list filp
}

check_shell() {
	our_files '*.sh' .ci/run | xargs shellcheck -x --source-path="$top"
}

check_rustfmt() {
	our_files '*.rs' | xargs rustfmt --check --edition 2021 --config-path "$base_tree/.rustfmt.toml"
}

check_programs() {
	cd "$top/kselftest/rust"
	cargo clippy --quiet --release --all-targets --target-dir "$build/clippy" -- -D warnings
}
