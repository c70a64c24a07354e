#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# test-bugs.sh [BUG...]: put each bug of tests/bugs/ into a kernel, and check that the tests
# that must find it do. Without a BUG, all of them.

. "$(dirname "$0")/lib/common.sh"

bugs=$top/tests/bugs

# field NAME: print a field of the header of $bug.
field() {
	sed -n "/^---/q; s/^$1: //p" "$bugs/$bug.patch"
}

# Put the bug into a copy of the tree of its series.
put_in() {
	local tree
	tree=$trees/$(field Series)
	check_out "$only_tree" "$(git -C "$tree" rev-parse HEAD)"
	git -C "$tree" diff --binary HEAD | git -C "$only_tree" apply --allow-empty
	git -C "$only_tree" apply "$bugs/$bug.patch" ||
		die "tests/bugs/$bug.patch does not apply: the code has changed"
}

# Add programs that do not find the bug, and must, to missed.
test_bug() {
	local guest program report=$results/bug-$bug gathered=()
	say "$bug: $(sed 1q "$bugs/$bug.patch")"
	put_in
	for guest in $(field Guests); do
		test_in_guest "bug-$bug-${guest/:/-}" "$guest" $(field Tests)
	done
	report_tests >"$report" || true
	for program in $(field Red); do
		if grep -Eq " $program +[0-9]+ passed, [1-9][0-9]* failed" "$report"; then
			say "$bug: found by $program"
		else
			say "$bug: NOT found by $program: see $report"
			missed+=("$bug by $program")
		fi
	done
}

[ $# -gt 0 ] || set -- $(basename -s .patch "$bugs"/*.patch)
for bug; do
	[ -f "$bugs/$bug.patch" ] || die "no such bug: tests/bugs/ has no $bug.patch"
done

lock_cache
prepare_guests $(for bug; do field Guests; done | xargs -n 1 | sort -u)
only_tree=$trees/bugs
missed=()
for bug; do
	test_bug
done
[ ${#missed[@]} -eq 0 ] || die "not found: $(printf '%s; ' "${missed[@]}")"
