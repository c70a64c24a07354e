#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# trees.sh base|series: make the base tree, or the base tree with the series
# applied, in the cache. What has not changed is not touched, so that only what
# depends on a change is built again.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/packages.sh
. "$scripts/packages.sh"

in_base() {
	git -C "$base_tree" -c core.compression=0 -c gc.auto=0 -c user.name=base \
		-c user.email=base@localhost -c commit.gpgSign=false "$@"
}

# Commit all of $base_tree, even what its .gitignore names (Debian's names all).
commit_base() {
	[ -d "$base_tree/.git" ] || in_base init -q
	in_base add -A -f -- . ':!build-*'
	in_base diff --cached --quiet 2>/dev/null || in_base commit -q -m "$1"
}

fetch_base() {
	local deb=$trees/deb version
	rm -rf "$trees"
	mkdir -p "$deb"
	download_deb "linux-source-$base_version" . "$deb" ||
		die "Debian has no linux-source-$base_version any more: give your own tree as LINUX=path"
	version=$(dpkg-deb -f "$deb"/*.deb Version)
	dpkg-deb -x "$deb"/*.deb "$deb"
	mkdir "$base_tree"
	tar -xJf "$deb/usr/src/linux-source-$base_version.tar.xz" -C "$base_tree" --strip-components=1
	rm -rf "$deb"
	commit_base "linux-source-$base_version $version"
	touch "$trees/complete"
}

check_user_tree() {
	local file
	for file in kernel/kcmp.c fs/eventpoll.c rust/kernel/lib.rs; do
		[ -f "$LINUX/$file" ] || die "LINUX=$LINUX is no kernel tree with Rust: it has no $file"
	done
}

# The user's tree stays as it is: its files are copied, those that changed since.
copy_base() {
	mkdir -p "$base_tree"
	if git -C "$LINUX" rev-parse --git-dir >/dev/null 2>&1; then
		git -C "$LINUX" ls-files -z --cached --deduplicate |
			rsync -a --from0 --files-from=- --ignore-missing-args "$LINUX/" "$base_tree/"
	else
		rsync -a --exclude='*.o' --exclude='*.a' --exclude='*.ko' --exclude='*.cmd' --exclude='/build-*' \
			--exclude='/include/generated' --exclude='/include/config' --exclude='/.config' "$LINUX/" "$base_tree/"
	fi
	commit_base "$LINUX"
	touch "$trees/complete"
}

# Put the commits of the series on the base, and the tree on the last of them.
apply_series() {
	local head
	head=$("$scripts/series.sh")
	if [ ! -e "$series_tree/.git" ]; then
		rm -rf "$series_tree"
		in_base worktree prune
		in_base worktree add -q --force --detach "$series_tree" "$head"
	fi
	git -C "$series_tree" symbolic-ref HEAD "refs/heads/$series_branch"
	# Also takes back what was changed by hand, or left by an interrupt.
	git -C "$series_tree" reset -q --hard "$head"
}

lock_cache
# An interrupted run leaves these, and nobody else is here.
rm -f "$base_tree/.git/index.lock" "$base_tree"/.git/worktrees/*/index.lock
case ${1:-} in
base)
	if [ -n "${LINUX:-}" ]; then
		check_user_tree
		[ -e "$trees/complete" ] || check_space 12
		step base "copying $LINUX" copy_base
	elif [ ! -e "$trees/complete" ]; then
		require_debian "linux-source-$base_version (or give your own tree as LINUX=path)"
		check_space 12
		step base "fetching Linux $base_version (Debian's linux-source-$base_version)" fetch_base
	fi
	;;
series)
	apply_series
	;;
*)
	die "usage: trees.sh base|series"
	;;
esac
