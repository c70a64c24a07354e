# SPDX-License-Identifier: GPL-2.0
# Makes the kernel trees in the cache: the base, and one for each series. Files that have not
# changed are not touched, so that only what depends on a change is rebuilt.

in_base() {
	git -C "$base_tree" -c core.compression=0 -c gc.auto=0 -c maintenance.auto=false \
		-c user.name=base -c user.email=base@localhost -c commit.gpgSign=false "$@"
}

# Commit all of $base_tree, even ignored files (Debian's .gitignore matches every file).
commit_base() {
	[ -d "$base_tree/.git" ] || in_base init -q
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

# Make the base tree. Changes in the user's own tree are copied each time.
make_base() {
	local file
	# An interrupted run may have left these: no other run uses the trees now.
	rm -f "$trees/index.lock" "$base_tree/.git/index.lock" "$base_tree"/.git/worktrees/*/index.lock
	[ -e "$trees/complete" ] || check_space 12
	if [ -n "${LINUX:-}" ]; then
		for file in kernel/kcmp.c fs/eventpoll.c rust/kernel/lib.rs; do
			[ -f "$LINUX/$file" ] || die "LINUX=$LINUX is not a kernel tree with Rust: $file is missing"
		done
		step base "copying $LINUX" copy_base
	elif [ ! -e "$trees/complete" ]; then
		step base "fetching Linux $base_version (Debian's linux-source-$base_version)" fetch_base
	fi
}

# check_out TREE COMMIT [BRANCH]: check out a commit, and discard all changes in the tree.
check_out() {
	if [ ! -e "$1/.git" ]; then
		rm -rf "$1"
		in_base worktree prune
		in_base worktree add -q --force --detach "$1" "$2"
	fi
	[ $# -eq 2 ] || git -C "$1" symbolic-ref HEAD "refs/heads/$3"
	[ $# -eq 3 ] || git -C "$1" checkout -q --force --detach
	git -C "$1" reset -q --hard "$2"
}

# Make the commits of all series, and check them out in their trees.
make_series_trees() {
	local name commit
	commit=$(git -C "$base_tree" rev-parse HEAD)
	for name in "${all_series[@]}"; do
		commit=$(commit_series "$name" "$commit")
		check_out "$trees/$name" "$commit" "$name"
	done
}
