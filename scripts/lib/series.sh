# SPDX-License-Identifier: GPL-2.0
# Makes commits from the files of this repository, and files from commits.
#
# A patch in series/NAME/ is a mail: its subject, the message, and the diff. Files that have a
# home here (see series/files) are left out of the diff of the commit that adds them, which has
# a line "Brings: FILE" instead; the file has the contents that it has after all commits.
# The same files make the same commits.

# head_line FILE NAME: print the values of a field in the header of a patch or cover letter.
head_line() {
	sed -n "1,/^\$/ s/^$2: //p" "$1"
}

# map_paths FROM TO: print the paths in stdin that are in column FROM of series/files as those
# in column TO, after a tab. A line that ends in a slash stands for all that is below it.
map_paths() {
	awk -v from="$1" -v to="$2" '
		FNR == NR { if (!/^#/) { key[++n] = $from; value[n] = $to } next }
		{
			for (i = 1; i <= n; i++)
				if ($0 == key[i] || (key[i] ~ /\/$/ && index($0, key[i]) == 1)) {
					print $0 "\t" value[i] substr($0, length(key[i]) + 1)
					break
				}
		}' "$top/series/files" -
}

# stage_homes ROOT SERIES...: put the files that the series bring into $staged, at their paths in
# the kernel, with the contents that they have in the commit that adds them.
stage_homes() {
	local root=$1 file path patch patches=()
	rm -rf "$staged"
	mkdir -p "$staged"
	for name in "${@:2}"; do
		for patch in "$root/series/$name"/*.patch; do
			patches=("$patch" "${patches[@]}")
			while IFS=$'\t' read -r file path; do
				[ -f "$root/$file" ] || die "${patch#"$root"/} brings $file, which does not exist"
				install -D -m 644 "$root/$file" "$staged/$path"
			done < <(head_line "$patch" Brings | map_paths 1 2)
		done
	done
	for patch in "${patches[@]}"; do
		sed -n 's|^+++ b/||p' "$patch" | while read -r path; do
			[ -e "$staged/$path" ] || continue
			GIT_CEILING_DIRECTORIES=${staged%/*} git -C "$staged" apply -R --include="$path" "$patch" ||
				die "${patch#"$root"/} changes lines of $path that are no longer like that: change it in the tree"
		done
	done
}

# mails ROOT NAME: print the patches of a series as a mailbox.
mails() {
	local root=$1 patch path date
	date=$(head_line "$root/series/$2/cover-letter" Change-Id)
	for patch in "$root/series/$2"/*.patch; do
		printf '%s\n' 'From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001' \
			"From: $GIT_COMMITTER_NAME <$GIT_COMMITTER_EMAIL>" "Date: ${date:0:4}-${date:4:2}-${date:6:2} 12:00 +0000"
		$fill <"$patch"
		head_line "$patch" Brings | map_paths 1 2 | while IFS=$'\t' read -r _ path; do
			printf 'diff --git a/%s b/%s\nnew file mode 100644\n--- /dev/null\n+++ b/%s\n@@ -0,0 +1,%d @@\n' \
				"$path" "$path" "$path" "$(wc -l <"$staged/$path")"
			sed 's/^/+/' "$staged/$path"
		done
	done
}

# make_scratch ARGUMENT...: make $scratch by git worktree add, without files: git am checks out
# those that it changes.
make_scratch() {
	rm -rf "$scratch"
	in_base worktree prune
	in_base worktree add -q --no-checkout "$scratch" "$@"
	git -C "$scratch" sparse-checkout set --no-cone /none
	git -C "$scratch" checkout -q
}

# import ROOT REFS PARENT SERIES...: commit the series in the folder ROOT on top of PARENT, each on
# top of the one before, from refs/REFS-base/NAME to refs/REFS/NAME. $fill filters the patches;
# $by_name and $by_email sign them off.
import() {
	local root=$1 refs=$2 parent=$3 staged=$build/staged fill=${fill:-cat} name
	local mbox=$build/series.mbox patches=() commits=() count n=0
	local -x GIT_COMMITTER_NAME=${by_name:-series} GIT_COMMITTER_EMAIL=${by_email:-series@localhost}
	shift 3
	mkdir -p "$build"
	stage_homes "$root" "$@"
	for name; do
		mails "$root" "$name"
		patches+=("$root/series/$name"/*.patch)
	done >"$mbox"

	make_scratch --detach "$parent"
	if ! git -C "$scratch" -c commit.gpgSign=false am -q --empty=keep --patch-format=mbox \
		--committer-date-is-author-date ${by_name:+--signoff} "$mbox" >"$mbox.log" 2>&1; then
		n=$(sed -n 's/^Patch failed at 0*\([0-9]\+\) .*/\1/p' "$mbox.log")
		[ -n "$n" ] || { cat "$mbox.log" && die "git am failed on the series"; }
		name=$(sed -n 's/^error: \(patch failed: \)\?\([^:]*\):.*/\2/p' "$mbox.log" | sed -n 1p)
		die "${patches[n - 1]#"$root"/} does not apply: ${name:-a file} differs from Linux $base_version with the patches before this one"
	fi
	mapfile -t commits < <(git -C "$scratch" rev-list --reverse "$parent..")
	[ ${#commits[@]} -eq ${#patches[@]} ] || die "git am made ${#commits[@]} commits of ${#patches[@]} patches"
	for name; do
		count=("$root/series/$name"/*.patch)
		n=$((n + ${#count[@]}))
		in_base update-ref "refs/$refs-base/$name" "$parent"
		parent=${commits[n - 1]}
		in_base update-ref "refs/$refs/$name" "$parent"
	done
}

# import_all ROOT REFS: commit all series.
import_all() {
	import "$1" "$2" "$(base_commit)" "${kernel_series[@]}"
	import "$1" "$2" "$man_base" man-pages
}

# export_series ROOT REFS SERIES...: write the patches of these series, and the files that they bring,
# to the folder ROOT. They begin at the commit that REFS-base/NAME is.
export_series() {
	local root=$1 refs=$2 name path home commit n base last
	local -A homes=()
	shift 2
	base=$(in_base rev-parse "refs/$refs-base/$1")
	last=refs/$refs/${*: -1}
	while IFS=$'\t' read -r path home; do
		homes[$path]=$home
		mkdir -p "$root/$(dirname "$home")"
		in_base cat-file blob "$last:$path" >"$root/$home"
	done < <(in_base diff-tree -r --no-renames --name-only --diff-filter=A "$base" "$last" | map_paths 2 1)

	for name; do
		n=0
		mkdir -p "$root/series/$name"
		for commit in $(in_base rev-list --reverse "refs/$refs-base/$name..refs/$refs/$name"); do
			n=$((n + 1))
			export_commit "$commit" >"$root/series/$name/$(printf '%04d' $n)-$(in_base log -1 --format=%f "$commit" |
				cut -c 1-52 | sed 's/[-.]*$//').patch"
		done
	done
}

# export_commit COMMIT: print a commit as a patch, without the files in $homes that it adds.
export_commit() {
	local path without=()
	in_base log -1 --format='Subject: %s' "$1"
	while read -r path; do
		[ -n "${homes[$path]:-}" ] || continue
		echo "Brings: ${homes[$path]}"
		without+=(":!$path")
	done < <(in_base diff-tree -r --no-commit-id --no-renames --name-only --diff-filter=A "$1")
	echo
	in_base log -1 --format=%b "$1" | git stripspace
	echo ---
	in_base -c diff.suppressBlankEmpty=false diff-tree -p --no-commit-id --no-renames "$1" -- . "${without[@]}" |
		sed '/^index [0-9a-f]*\.\.[0-9a-f]*/ d'
}
