#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# save.sh: write the commits in the kernel trees back to series/, and the files that they bring to
# their homes. Exits with 2, and changes no file, if the trees are not fit for that.

. "$(dirname "$0")/lib/common.sh"

refuse() {
	die_status=2 die "$@"
}

# check_tree NAME: refuse a tree with anything but commits.
check_tree() {
	local tree=$trees/$1 begun changes
	! begun=$(in_progress "$tree") || refuse "a $begun has begun in $tree: finish it, or 'git -C $tree $begun --abort'"
	git -C "$tree" symbolic-ref -q HEAD >/dev/null || refuse "$tree is on no branch: 'git -C $tree switch -C $1'"
	changes=$(git -C "$tree" status --porcelain | sed -n '1s/^...//p')
	[ -z "$changes" ] || refuse "$changes in $tree is not committed: commit it, or 'git -C $tree stash -u'"
}

# check_commits BASE TREE: refuse commits that no patch could describe.
check_commits() {
	local commit homes
	for commit in $(in_base rev-list --reverse "$1..$2"); do
		[ -n "$(in_base log -1 --format=%s "$commit")" ] || refuse "$(in_base log -1 --format=%h "$commit") has no message"
		[ "$(in_base rev-list --parents -1 "$commit" | wc -w)" -eq 2 ] || refuse "$(title "$commit") is a merge"
		! in_base diff-tree -p "$commit" | grep -qE '^\+(<<<<<<<|>>>>>>>) ' || refuse "$(title "$commit") has conflict markers"
		homes=$(in_base diff-tree -r --no-commit-id --name-only "$commit" | map_paths 2 1 | cut -f 2 |
			sed 's|^Kconfig$|rust|; s|/.*||; /^Documentation$/ d' | sort -u | paste -sd ' ')
		[[ $homes != *' '* ]] || refuse "$(title "$commit") changes files of ${homes/ / and }: split it"
	done
}

title() {
	in_base log -1 --format='%h ("%s")' "$1"
}

# stack_tree NAME BEFORE: rebase the tree of a series onto the commit BEFORE, the end of the
# series before it, unless it is based on that.
stack_tree() {
	local tree=$trees/$1 base=refs/made-base/$1
	if ! git -C "$tree" merge-base --is-ancestor "$2" HEAD; then
		git -C "$tree" merge-base --is-ancestor "$base" HEAD ||
			refuse "$tree lacks the end of the series before it: change each series in its own tree"
		git -C "$tree" -c user.name=base -c user.email=base@localhost -c commit.gpgSign=false \
			rebase -q --empty=keep --onto "$2" "$base" >&2 || refuse "$1 conflicts with the series before it: resolve that in $tree, and save again"
	fi
	in_base update-ref "refs/tree/$1" "$(git -C "$tree" rev-parse HEAD)"
	in_base update-ref "refs/tree-base/$1" "$2"
	check_commits "$2" "refs/tree/$1"
}

# contents REFS: print the trees and messages of all commits.
contents() {
	local name
	for name in "${all_series[@]}"; do
		in_base log --reverse --format='%T %B' "refs/$1-base/$name..refs/$1/$name"
	done
}

# copy_files: copy the patches, and the files that they bring, to $old.
copy_files() {
	local patch
	cd "$top"
	for patch in $(printf 'series/%s/*.patch ' "${all_series[@]}"); do
		cp --parents "$patch" $(head_line "$patch" Brings) "$old"
	done
	cd "$OLDPWD"
}

# write_files: write each file that has changed in the trees, unless it has changed here, too.
write_files() {
	local file here changes=()
	while read -r file; do
		here=$top/$file
		! same "$old/$file" "$new/$file" || continue
		! same "$here" "$new/$file" || continue
		same "$here" "$old/$file" || refuse "$file has changed here and in the tree: undo it here (git stash), save, and do it again"
		changes+=("$file")
	done < <(cd "$build/save" && find old new -type f ! -name cover-letter | sed 's|^[^/]*/||' | sort -u)
	for file in "${changes[@]}"; do
		if [ -e "$new/$file" ]; then
			mkdir -p "$(dirname "$top/$file")"
			cp "$new/$file" "$top/$file"
			echo "wrote $file"
		else
			rm "$top/$file"
			echo "removed $file"
		fi
	done
}

# same FILE FILE: true if both have the same contents, or neither exists.
same() {
	if [ -e "$1" ]; then cmp -s "$1" "$2"; else [ ! -e "$2" ]; fi
}

lock_cache
install_packages git rsync
make_base
old=$build/save/old new=$build/save/new
for name in "${all_series[@]}"; do
	[ -e "$trees/$name/.git" ] || refuse "there is no tree of $name yet: run 'make tree'"
	check_tree "$name"
done
before=$(base_commit)
for name in "${kernel_series[@]}"; do
	stack_tree "$name" "$before"
	before=$(git -C "$trees/$name" rev-parse HEAD)
done
stack_tree man-pages "$man_base"

rm -rf "$build/save"
mkdir -p "$old"
for name in "${all_series[@]}"; do
	mkdir -p "$new/series/$name"
	cp "$top/series/$name/cover-letter" "$new/series/$name/"
done
export_series "$new" tree "${kernel_series[@]}"
export_series "$new" tree man-pages
import_all "$top" import
if [ "$(contents import)" = "$(contents made)" ]; then
	copy_files
else
	export_series "$old" made "${kernel_series[@]}"
	export_series "$old" made man-pages
fi
import_all "$new" save
[ "$(contents save)" = "$(contents tree)" ] ||
	refuse "the commits cannot be written as patches: does a message have a line '---', or a file no newline at its end?"
write_files
for name in "${all_series[@]}"; do
	set_made "$name" save
	git -C "$trees/$name" reset -q --soft "refs/made/$name"
done
