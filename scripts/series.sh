#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# series.sh: make commits of the series on the base tree, and print the last.
#
# A file of series/ is one commit:
#
#	Subject: prefix: What it does
#	Brings: rust/kcmp_epoll.rs
#
#	The message.
#	---
#	diff --git a/kernel/Makefile b/kernel/Makefile
#	...
#
# In the message, figures in braces stand for results of the benchmark: see figures.py.
# "Brings" names files of this repository that the commit adds; series/files says
# where each of them lands. The diff is what the commit changes in files that the
# kernel already has.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"

git_base() {
	git -C "$base_tree" -c core.compression=0 "$@"
}

# Where a file of this repository lands in the kernel.
landing() {
	awk -v file="$1" '$1 == file { print $2; found = 1 } END { exit !found }' "$top/series/files" ||
		die "series/files does not say where $1 lands"
}

# commit_patch FILE PARENT: print the commit that FILE makes on top of PARENT. The
# index is that of PARENT.
commit_patch() {
	local patch=$1 parent=$2 file blob drifted
	local subject message

	subject=$(sed -n '1,/^$/ s/^Subject: //p' "$patch")
	[ -n "$subject" ] || die "$patch has no subject"
	# What was not measured shows in the text: mails.sh refuses to write it.
	message=$(sed '1,/^$/ d; /^---$/,$ d' "$patch" | "$scripts/figures.py" - 2>/dev/null) || true

	if grep -q '^diff --git ' "$patch"; then
		if ! drifted=$(git_base apply --cached "$patch" 2>&1); then
			file=$(sed -n 's/^error: \(patch failed: \)\?\([^:]*\):.*/\2/p' <<<"$drifted" | head -n 1)
			die "${patch##*/} does not apply: ${file:-a file} of the tree is not as in Linux $base_version"
		fi
	fi
	while read -r file; do
		[ -f "$top/$file" ] || die "$patch brings $file, which is not there"
		blob=$(git_base hash-object -w "$top/$file")
		git_base update-index --add --cacheinfo "$(file_mode "$top/$file"),$blob,$(landing "$file")"
	done < <(sed -n '1,/^$/ s/^Brings: //p' "$patch")

	printf '%s\n\n%s\n\nSigned-off-by: %s <%s>\n' "$subject" "$message" \
		"$GIT_AUTHOR_NAME" "$GIT_AUTHOR_EMAIL" |
		git_base commit-tree -p "$parent" "$(git_base write-tree)"
}

file_mode() {
	if [ -x "$1" ]; then echo 100755; else echo 100644; fi
}

author() {
	git -C "$top" log -1 --format="$1" -- series 2>/dev/null | grep .
}

apply() {
	local patch commit
	local -x GIT_INDEX_FILE GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_AUTHOR_DATE
	local -x GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL GIT_COMMITTER_DATE

	# Who signs off: the author of this repository's commits.
	GIT_AUTHOR_NAME=$(author %an) || GIT_AUTHOR_NAME=$(git -C "$top" config user.name) ||
		die "who is the author? set git's user.name and user.email"
	GIT_AUTHOR_EMAIL=$(author %ae) || GIT_AUTHOR_EMAIL=$(git -C "$top" config user.email) ||
		die "who is the author? set git's user.name and user.email"
	GIT_AUTHOR_DATE=$(author %aI) || GIT_AUTHOR_DATE=$(date -Iseconds)
	GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME
	GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
	GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE

	# The work tree of the base is not touched.
	GIT_INDEX_FILE=$trees/index
	rm -f "$GIT_INDEX_FILE"
	commit=$(git_base rev-parse HEAD)
	git_base read-tree "$commit"
	for patch in "$top"/series/*.patch; do
		commit=$(commit_patch "$patch" "$commit") || exit 1
	done
	printf '%s\n' "$commit"
}

apply
