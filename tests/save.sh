#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# save.sh TREE: test that "make tree" and "make save" lose nothing. Uses a copy of this repository,
# and a kernel tree of only those files of TREE that the series change.

set -euo pipefail
shopt -s inherit_errexit
top=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
here=$work/here
mkdir -p "$here" "$work"/{linux,cache/kcmp-epoll-tfd}
cp -r "${XDG_CACHE_HOME:-$HOME/.cache}/kcmp-epoll-tfd/man-pages" "$work/cache/kcmp-epoll-tfd/"
(cd "$top" && git ls-files -co --exclude-standard | while read -r file; do [ ! -e "$file" ] || cp --parents "$file" "$here"; done)
(cd "$1" && sed -n 's|^--- a/||p' "$here"/series/[0-9]*/*.patch | sort -u | cat - <(echo .gitattributes .gitignore rust/kernel/lib.rs | tr ' ' '\n') |
	while read -r file; do [ ! -e "$file" ] || cp --parents "$file" "$work/linux"; done)
unset die_status
export XDG_CACHE_HOME=$work/cache LINUX=$work/linux
export GIT_AUTHOR_NAME=Tester GIT_AUTHOR_EMAIL=tester@localhost GIT_COMMITTER_NAME=Tester GIT_COMMITTER_EMAIL=tester@localhost
export GIT_CONFIG_GLOBAL=/dev/null GIT_SEQUENCE_EDITOR=true GIT_EDITOR=true

fail() {
	echo "FAILED: $name: $*"
	cat "$work/out"
	exit 1
}

# expect STATUS COMMAND [TEXT]: run tree.sh or save.sh; check its status, and that it prints TEXT.
expect() {
	local status=0
	"$here/scripts/$2.sh" >"$work/out" 2>&1 || status=$?
	[ "$status" -eq "$1" ] || fail "$2.sh exits with $status"
	grep -qF -- "${3:-}" "$work/out" || fail "$2.sh does not print '$3'"
}

# The files here, as one number.
sum() {
	(cd "$here" && find series kselftest rust Documentation Kconfig -type f | sort | xargs sha256sum | sha256sum)
}

# begin NAME: begin a test case in the state after a fresh set-up.
begin() {
	name=$1
	rm -rf "$here"
	cp -r "$work/start" "$here"
	for series in "${all[@]}"; do
		git -C "$trees/$series" rebase --abort 2>/dev/null || true
		git -C "$trees/$series" checkout -q -f -B "$series" "start/$series"
		git -C "$trees/$series" clean -qfd
		git -C "$trees/base" update-ref "refs/made/$series" "start/$series"
		git -C "$trees/base" update-ref "refs/made-base/$series" "start-base/$series"
	done
	before=$(sum)
}

# kernel SERIES ARGUMENT...: run git in the tree of a series.
kernel() {
	git -C "$trees/$1" -c advice.detachedHead=false "${@:2}"
}

commit() {
	kernel "$1" commit -q -a "${@:2}"
}

name="fresh set-up"
expect 0 tree
trees=$(tail -n 1 "$work/out")
before=$(sum)
expect 0 save
! grep -q ^wrote "$work/out" || fail "something was written"
[ "$(sum)" = "$before" ] || fail "files have changed"
all=(1-kcmp 2-eventpoll 3-criu 4-rust man-pages)
for series in "${all[@]}"; do
	git -C "$trees/base" tag "start/$series" "refs/made/$series"
	git -C "$trees/base" tag "start-base/$series" "refs/made-base/$series"
done
cp -r "$here" "$work/start"

begin "uncommitted edit"
echo '/* edit */' >>"$trees/1-kcmp/kernel/kcmp.c"
expect 0 tree "series/ is older than the tree of 1-kcmp: make save"
expect 2 save "kernel/kcmp.c in $trees/1-kcmp is not committed"
grep -q edit "$trees/1-kcmp/kernel/kcmp.c" || fail "the edit is lost"
[ "$(sum)" = "$before" ] || fail "files have changed"
[ "$("$here/scripts/tree.sh" 2>/dev/null)" = "$trees" ] || fail "tree.sh prints more than the path"

begin "untracked file"
echo 'text' >"$trees/1-kcmp/kernel/new.c"
expect 0 tree "series/ is older"
expect 2 save "kernel/new.c in $trees/1-kcmp is not committed"
[ -e "$trees/1-kcmp/kernel/new.c" ] || fail "it is lost"

begin "unsaved commit, later series follow"
first=$(kernel 1-kcmp rev-list --reverse refs/made-base/1-kcmp..HEAD | sed -n 1p)
echo '/* edit */' >>"$trees/1-kcmp/kernel/kcmp.c"
commit 1-kcmp --fixup "$first"
expect 0 tree "series/ is older"
kernel 1-kcmp rebase -q -i --autosquash "$first^"
expect 0 tree "series/ is older"
expect 0 save "wrote series/1-kcmp/0001-"
[ "$(grep -c ^wrote "$work/out")" -eq 1 ] || fail "not only the first patch was written"
expect 0 tree
! grep -q older "$work/out" || fail "the tree is not saved"
grep -q edit "$trees/4-rust/kernel/kcmp.c" || fail "4-rust does not have the change"

begin "edit here"
sed -i '1a // edit' "$here/rust/kcmp_epoll.rs"
expect 0 tree
grep -q '^// edit' "$trees/4-rust/kernel/kcmp_epoll.rs" || fail "the tree does not have the edit"
expect 0 save
! grep -q ^wrote "$work/out" || fail "something was written"

begin "edit here of a file that a later series changes"
sed -i '1a // edit' "$here/kselftest/kcmp_epoll_tfd_test.c"
expect 0 tree
grep -q '^// edit' "$trees/1-kcmp/tools/testing/selftests/kcmp/kcmp_epoll_tfd_test.c" || fail "1-kcmp lacks it"
grep -q '^// edit' "$trees/4-rust/tools/testing/selftests/kcmp/kcmp_epoll_tfd_test.c" || fail "4-rust lacks it"

begin "both, in different files"
sed -i '1a // edit' "$here/rust/kcmp_epoll.rs"
echo '/* edit */' >>"$trees/4-rust/fs/eventpoll.h"
commit 4-rust -m 'eventpoll: Edit'
expect 1 tree "kernel/kcmp_epoll.rs has changed here, and $trees/4-rust has changed, too"
expect 0 save "wrote series/4-rust/"
expect 0 tree
grep -q '^// edit' "$trees/4-rust/kernel/kcmp_epoll.rs" || fail "the edit here is lost"
grep -q edit "$trees/4-rust/fs/eventpoll.h" || fail "the commit is lost"

begin "both, in one file"
sed -i '1a // here' "$here/rust/kcmp_epoll.rs"
sed -i '1a // there' "$trees/4-rust/kernel/kcmp_epoll.rs"
commit 4-rust -m 'kcmp: Edit'
expect 1 tree "kernel/kcmp_epoll.rs has changed here"
expect 2 save "rust/kcmp_epoll.rs has changed here and in the tree"
grep -q '^// here' "$here/rust/kcmp_epoll.rs" || fail "the edit here is lost"
grep -q '^// there' "$trees/4-rust/kernel/kcmp_epoll.rs" || fail "the commit is lost"

begin "uncommitted edit, and another file here"
sed -i '1a // edit' "$here/rust/kcmp_epoll.rs"
echo '/* edit */' >>"$trees/4-rust/fs/eventpoll.h"
expect 0 tree "series/ is older than the tree of 4-rust"
grep -q '^// edit' "$trees/4-rust/kernel/kcmp_epoll.rs" || fail "the tree does not have the edit here"
grep -q edit "$trees/4-rust/fs/eventpoll.h" || fail "the edit in the tree is lost"

begin "interrupted rebase"
echo '/* edit */' >>"$trees/1-kcmp/kernel/kcmp.c"
commit 1-kcmp -m 'kcmp: Edit'
GIT_SEQUENCE_EDITOR='sed -i 1ibreak' kernel 1-kcmp rebase -q -i HEAD~2 >/dev/null 2>&1
expect 0 tree "series/ is older than the tree of 1-kcmp"
expect 2 save "a rebase has begun in $trees/1-kcmp"
kernel 1-kcmp rebase --continue >/dev/null 2>&1
expect 0 save "wrote series/1-kcmp/"

begin "renamed branch"
kernel 1-kcmp branch -q -m mine
echo '/* edit */' >>"$trees/1-kcmp/kernel/kcmp.c"
commit 1-kcmp -m 'kcmp: Edit'
expect 0 tree "series/ is older than the tree of 1-kcmp"
expect 0 save "wrote series/1-kcmp/"
expect 0 tree
kernel 1-kcmp branch -q -m mine 1-kcmp

begin "tree removed by hand"
echo '/* edit */' >>"$trees/1-kcmp/kernel/kcmp.c"
commit 1-kcmp -m 'kcmp: Edit'
rm -rf "$trees/1-kcmp"
expect 0 tree "series/ is older than the tree of 1-kcmp"
grep -q edit "$trees/1-kcmp/kernel/kcmp.c" || fail "the commit is lost"

begin "commits that are reordered, reworded, removed, split; files that are added and renamed"
file=tools/testing/selftests/kcmp/added.c
echo 'int added;' >"$trees/4-rust/$file"
kernel 4-rust add -f "$file"
commit 4-rust -m 'selftests/kcmp: Add a file' -m 'It counts {bytes of text, rust:0}.'
echo 'int more;' >>"$trees/4-rust/$file"
commit 4-rust -m 'selftests/kcmp: Change it'
export GIT_SEQUENCE_EDITOR=$work/last-first
# shellcheck disable=SC2016 # not expanded here
printf '#!/bin/sh\n{ sed -n 4p "$1"; sed 4d "$1"; } >"$1.new"\nmv "$1.new" "$1"\n' >"$GIT_SEQUENCE_EDITOR"
chmod +x "$GIT_SEQUENCE_EDITOR"
kernel 4-rust mv "$file" "${file/added/renamed}"
commit 4-rust -m 'selftests/kcmp: Rename it'
echo '/* edit */' >>"$trees/4-rust/fs/eventpoll.h"
commit 4-rust -m 'eventpoll: Edit'
kernel 4-rust rebase -q -i HEAD~4
[ "$(kernel 4-rust log -1 --format=%s)" = 'selftests/kcmp: Rename it' ] || fail "the commits are not reordered"
expect 0 save "wrote kselftest/renamed.c"
[ ! -e "$here/kselftest/added.c" ] || fail "the old name is there"
grep -q '{bytes of text, rust:0}' "$here"/series/4-rust/*Add-a-file.patch || fail "the placeholder is lost"
expect 0 tree
kernel 4-rust reset -q --hard HEAD~4
expect 0 save "removed kselftest/renamed.c"
[ "$(sum)" = "$before" ] || fail "files have changed"

# refused TEXT: check that save.sh refuses, and says why.
refused() {
	expect 2 save "$1"
	[ "$(sum)" = "$before" ] || fail "files have changed"
}

begin "detached HEAD"
kernel 1-kcmp checkout -q --detach
refused "$trees/1-kcmp is on no branch"

begin "conflict markers"
printf '<<<<<<< HEAD\n=======\n>>>>>>> other\n' >>"$trees/1-kcmp/kernel/kcmp.c"
commit 1-kcmp -m 'kcmp: Edit'
refused "has conflict markers"

begin "commit without a message"
echo '/* edit */' >>"$trees/1-kcmp/kernel/kcmp.c"
commit 1-kcmp --allow-empty-message -m ''
refused "has no message"

begin "files of two homes"
sed -i '1a // edit' "$trees/4-rust/kernel/kcmp_epoll.rs" "$trees/4-rust/tools/testing/selftests/kcmp/kcmp_epoll_tfd_test.c"
commit 4-rust -m 'kcmp: Edit'
refused "changes files of kselftest and rust: split it"

begin "merge"
kernel 1-kcmp checkout -q -b side HEAD~1
echo '/* edit */' >>"$trees/1-kcmp/kernel/kcmp.c"
commit 1-kcmp -m 'kcmp: Edit'
kernel 1-kcmp merge -q --no-edit 1-kcmp
kernel 1-kcmp branch -q -f 1-kcmp
kernel 1-kcmp checkout -q 1-kcmp
refused "is a merge"

begin "a series that conflicts with the one before it"
sed -i 's/kcmp_lock(/kcmp_locks(/' "$trees/1-kcmp/kernel/kcmp.c"
sed -i 's/ep_find(/ep_lookup(/' "$trees/1-kcmp/fs/eventpoll.c"
commit 1-kcmp -m 'eventpoll: Edit'
expect 2 save "conflicts with the series before it: resolve that in"
[ "$(sum)" = "$before" ] || fail "files have changed"
expect 0 tree "older"
expect 2 save "a rebase has begun"
