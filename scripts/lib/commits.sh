# SPDX-License-Identifier: GPL-2.0
# Makes the commits of a series from the patches in its folder: see "Change it" in
# README.md. The same patches give the same commits: the date is that of the change-id.

# head_line FILE NAME: print the values of a field in the header of a patch or cover letter.
head_line() {
	sed -n "1,/^\$/ s/^$2: //p" "$1"
}

# message_of FILE: print the message, with the figures filled in. Fails if any are missing.
message_of() {
	sed '1,/^$/ d; /^---$/,$ d' "$1" | "$lib/results.py" fill
}

# author name|email: print that of the git user, or else of this repository's last commit.
author() {
	git -C "$top" config "user.$1" || git -C "$top" log -1 --format="%a${1:0:1}" 2>/dev/null | grep . ||
		die "no author: set git's user.name and user.email"
}

# apply_diff FILE TREE [OPTION]: run git apply, with an error that names the file in the tree. The
# line counts in hunk headers need not be right.
apply_diff() {
	local drifted file
	drifted=$(git -C "$2" apply --recount -C1 "${@:3}" "$1" 2>&1) && return
	file=$(sed -n 's/^error: \(patch failed: \)\?\([^:]*\):.*/\2/p' <<<"$drifted" | sed 1q)
	die "${1#"$top"/} does not apply: ${file:-a file} differs from Linux $base_version with the patches before this one"
}

# commit_patch FILE PARENT: commit it on top of PARENT, whose tree is in the index; print the hash.
commit_patch() {
	local file blob path message
	! grep -q '^diff --git ' "$1" || apply_diff "$1" "$base_tree" --cached
	while read -r file; do
		[ -f "$top/$file" ] || die "${1#"$top"/} brings $file, which does not exist"
		blob=$(in_base hash-object -w "$top/$file")
		path=$(awk -v file="$file" '$1 == file { print $2 }' "$top/series/files")
		[ -n "$path" ] || die "series/files has no path for $file"
		in_base update-index --add --cacheinfo "100644,$blob,$path"
	done < <(head_line "$1" Brings)

	# Missing figures are allowed here, and show as "?": only "make series" needs them.
	message=$(message_of "$1" 2>/dev/null) || true
	printf '%s\n\n%s\n' "$(head_line "$1" Subject)" "$message" |
		in_base interpret-trailers --trailer "Signed-off-by: $GIT_AUTHOR_NAME <$GIT_AUTHOR_EMAIL>" |
		in_base commit-tree -p "$2" "$(in_base write-tree)"
}

# commit_series NAME PARENT: commit a series on top of PARENT; print the hash of the last commit.
commit_series() {
	local id patch commit=$2
	id=$(head_line "$top/series/$1/cover-letter" Change-Id)
	local -x GIT_INDEX_FILE=$trees/index GIT_AUTHOR_DATE="${id:0:4}-${id:4:2}-${id:6:2} 12:00 +0000"
	local -x GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL GIT_COMMITTER_DATE
	GIT_AUTHOR_NAME=$(author name)
	GIT_AUTHOR_EMAIL=$(author email)
	GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE

	in_base read-tree "$commit"
	for patch in "$top/series/$1"/*.patch; do
		commit=$(commit_patch "$patch" "$commit")
	done
	echo "$commit"
}
