# SPDX-License-Identifier: GPL-2.0
# The kernel trees: the base, and one for each series, where people change it. They are worktrees
# of one git repository. Files that have not changed are not touched, so that only what
# depends on a change is rebuilt.
#
# refs/made/NAME is the commit that the files of this repository last made, on top of
# refs/made-base/NAME; HEAD of the tree differs from it if somebody has committed since.

in_base() {
	git -C "$base_tree" -c core.compression=0 -c gc.auto=0 -c maintenance.auto=false -c core.abbrev=12 \
		-c user.name=base -c user.email=base@localhost -c commit.gpgSign=false "$@"
}

base_commit() {
	in_base rev-parse HEAD
}

# Commit all of $base_tree, even ignored files. Debian's .gitignore ends with a rule for every
# file: without it, git shows new ones.
commit_base() {
	[ -d "$base_tree/.git" ] || in_base init -q
	echo '/build-*' >"$base_tree/.git/info/exclude"
	sed -i '/^# Debian packaging/,$ d' "$base_tree/.gitignore"
	in_base add -A -f -- . ':!build-*'
	in_base diff --cached --quiet 2>/dev/null || in_base commit -q -m "$1"
	touch "$trees/complete"
}

fetch_base() {
	local deb=$trees/deb version
	rm -rf "$trees"
	mkdir -p "$deb" "$base_tree"
	download download "linux-source-$base_version" . "$deb" ||
		die "Debian no longer has linux-source-$base_version: set LINUX to a kernel tree"
	version=$(dpkg-deb -f "$deb"/*.deb Version)
	dpkg-deb -x "$deb"/*.deb "$deb"
	tar -xJf "$deb/usr/src/linux-source-$base_version.tar.xz" -C "$base_tree" --strip-components=1
	rm -rf "$deb"
	commit_base "linux-source-$base_version $version"
}

# Copy the changes in the user's tree, without the files that a build in it has made.
copy_base() {
	mkdir -p "$base_tree"
	rsync -a --delete --exclude={.git,'*.o','*.a','*.ko','*.cmd',/build-*,generated,/include/config,/.config,/vmlinux*} \
		"$LINUX/" "$base_tree/"
	commit_base "$LINUX"
}

# The page that the series man-pages changes, from Debian.
fetch_man() {
	local deb=$man_page.part
	rm -rf "$deb"
	mkdir -p "$deb"
	download download manpages-dev . "$deb" || die "Debian has no manpages-dev"
	dpkg-deb -f "$deb"/*.deb Version >"$deb/version"
	dpkg-deb --fsys-tarfile "$deb"/*.deb | tar -xO ./usr/share/man/man2/kcmp.2.gz | gunzip >"$deb/kcmp.2"
	rm "$deb"/*.deb
	mv "$deb" "$man_page"
}

# Set $man_base to a commit with only that page, at its path in the repository of man-pages.
make_man_base() {
	local tree
	[ -d "$man_page" ] || step man-pages "fetching the man page of kcmp(2) (Debian's manpages-dev)" fetch_man
	tree=$(in_base hash-object -w "$man_page/kcmp.2")
	tree=$(printf '100644 blob %s\tkcmp.2\n' "$tree" | in_base mktree)
	tree=$(printf '040000 tree %s\tman2\n' "$tree" | in_base mktree)
	tree=$(printf '040000 tree %s\tman\n' "$tree" | in_base mktree)
	man_base=$(GIT_AUTHOR_DATE='2026-01-01 12:00 +0000' GIT_COMMITTER_DATE='2026-01-01 12:00 +0000' \
		in_base commit-tree -m "manpages-dev $(cat "$man_page/version")" "$tree")
}

# Make the base tree. Changes in the user's own tree are copied each time.
make_base() {
	local file
	# An interrupted run may have left these, in trees where nobody works.
	rm -f "$base_tree"/.git/{,worktrees/{scratch,bisect,bugs}/}index.lock
	[ -e "$trees/complete" ] || check_space 12
	if [ -n "${LINUX:-}" ]; then
		for file in kernel/kcmp.c fs/eventpoll.c rust/kernel/lib.rs; do
			[ -f "$LINUX/$file" ] || die "LINUX=$LINUX is not a kernel tree with Rust: $file is missing"
		done
		step base "copying $LINUX" copy_base
	elif [ ! -e "$trees/complete" ]; then
		step base "fetching Linux $base_version (Debian's linux-source-$base_version)" fetch_base
	fi
	make_man_base
}

# in_progress TREE: print what git has begun in the tree and not finished; fail if nothing.
in_progress() {
	local dir
	dir=$(git -C "$1" rev-parse --git-dir)
	case $(cd "$dir" && echo rebase-* *_HEAD) in
	*rebase-[am]*) echo rebase ;;
	*MERGE_HEAD*) echo merge ;;
	*CHERRY_PICK_HEAD*) echo cherry-pick ;;
	*REVERT_HEAD*) echo revert ;;
	*) return 1 ;;
	esac
}

# is_saved TREE NAME: true if nobody has changed the tree since the files made it.
is_saved() {
	[ "$(git -C "$1" rev-parse HEAD)" = "$(in_base rev-parse "refs/made/$2")" ] &&
		[ -z "$(git -C "$1" status --porcelain)" ]
}

# update_tree NAME: check out what the files here make in the tree of a series, if it has changed.
# What somebody has changed in the tree stays, and is added to $unsaved.
update_tree() {
	local tree=$trees/$1 made now file
	made=$(in_base rev-parse "refs/import/$1")
	if [ ! -e "$tree/.git" ]; then
		rm -rf "$tree"
		in_base worktree prune
		# The branch has commits that nobody has saved if somebody has removed the tree.
		in_base show-ref -q --verify "refs/heads/$1" || in_base branch -q --no-track "$1" "$made"
		in_base worktree add -q "$tree" "$1"
		in_base show-ref -q --verify "refs/made/$1" || set_made "$1" import
	fi
	if [ "$(in_base rev-parse "refs/made/$1")" != "$made" ]; then
		now=$(git -C "$tree" rev-parse HEAD)
		if [ "$now" != "$made" ]; then
			if [ "$now" != "$(in_base rev-parse "refs/made/$1")" ] || in_progress "$tree" >/dev/null ||
				! git -C "$tree" reset -q --keep "$made"; then
				file=$(in_base diff --name-only "refs/made/$1" "$made" | sed -n 1p)
				die "$file has changed here, and $tree has changed, too: merge them by 'make save', or give" \
					"up the tree's changes by 'git -C $tree reset --hard refs/made/$1'"
			fi
		fi
		set_made "$1" import
	fi
	is_saved "$tree" "$1" || unsaved+=("$1")
}

# set_made NAME REFS: note the commits that the files here make: those of REFS.
set_made() {
	in_base update-ref "refs/made/$1" "refs/$2/$1"
	in_base update-ref "refs/made-base/$1" "refs/$2-base/$1"
}

# Make the commits of all series, and update their trees.
update_trees() {
	local name
	unsaved=()
	import_all "$top" import
	for name in "${all_series[@]}"; do
		update_tree "$name"
	done
	trap say_unsaved EXIT
}

say_unsaved() {
	[ ${#unsaved[@]} -eq 0 ] || say "series/ is older than the tree of ${unsaved[*]}: make save" >&2
}

# check_out TREE COMMIT: check out a commit in a tree where nobody works, and discard all changes.
check_out() {
	if [ ! -e "$1/.git" ]; then
		rm -rf "$1"
		in_base worktree prune
		in_base worktree add -q --force --detach "$1" "$2"
	fi
	git -C "$1" reset -q --hard "$2"
}
