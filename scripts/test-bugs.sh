#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-bugs.sh [BUG...]: put each bug of Documentation/bugs/ into a copy of this
# checkout, and see that the tests which have to find it do. Without a BUG, all.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

bugs=$top/Documentation/bugs
copy=$build/bugs

# field BUG NAME: a line of the head of a patch.
field() {
	sed -n "/^---/q; s/^$2: //p" "$bugs/$1.patch"
}

# A copy of what this checkout has, committed or not.
make_copy() {
	local commit
	commit=$(git -C "$top" stash create)
	git -C "$top" worktree remove --force "$copy" 2>/dev/null || true
	rm -rf "$copy"
	git -C "$top" worktree prune
	git -C "$top" worktree add -q --force --detach "$copy" "${commit:-HEAD}"
}

# test_bug BUG: print what was found, and fail if something was not.
test_bug() {
	local bug=$1 program status=0 results=$build/results/bug-$1
	git -C "$copy" checkout -q -- .
	git -C "$copy" apply "$bugs/$bug.patch" ||
		die "Documentation/bugs/$bug.patch does not apply: the code has changed"
	# shellcheck disable=SC2046 # these are words
	TESTS=$(field "$bug" Tests) "$copy/scripts/test.sh" $(field "$bug" Guests) >"$results" 2>&1 || true
	for program in $(field "$bug" Red); do
		if grep -Eq " $program +[0-9]+ passed, [1-9][0-9]* failed" "$results"; then
			say "$bug: found by $program"
		else
			say "$bug: NOT found by $program: see $results"
			status=1
		fi
	done
	return $status
}

if [ $# -eq 0 ]; then
	for patch in "$bugs"/*.patch; do
		set -- "$@" "$(basename "$patch" .patch)"
	done
fi
for bug; do
	[ -f "$bugs/$bug.patch" ] || die "no such bug: Documentation/bugs/ has no $bug.patch"
done

lock_cache
mkdir -p "$build/results"
make_copy
missed=()
for bug; do
	test_bug "$bug" || missed+=("$bug")
done
[ ${#missed[@]} -eq 0 ] || die "not found by all tests that should: ${missed[*]}"
git -C "$top" worktree remove --force "$copy"
