#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# test-bugs.sh [BUG...]: put each bug of kselftest/bugs/ into a kernel, and check that
# the tests that must find it do. Without a BUG, all of them.

. "$(dirname "$0")/lib/common.sh"

bugs=$top/kselftest/bugs

# field NAME: print a field of the header of $bug.
field() {
	sed -n "/^---/q; s/^$1: //p" "$bugs/$bug.patch"
}

# Patch the tree of the bug's series. The patch may use the paths of this repository.
put_in() {
	local patch=$results/bug-$bug.patch series
	series=$(field Series)
	sed "$(awk '!/^#/ { print "s|\\([ab]\\)/" $1 "\\>|\\1/" $2 "|g" }' "$top/series/files")" "$bugs/$bug.patch" >"$patch"
	apply_diff "$patch" "$trees/${series:-3-rust}"
}

# Add programs that do not find the bug, and must, to missed.
test_bug() {
	local guest program report=$results/bug-$bug gathered=()
	say "$bug: $(sed 1q "$bugs/$bug.patch")"
	make_series_trees
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
	[ -f "$bugs/$bug.patch" ] || die "no such bug: kselftest/bugs/ has no $bug.patch"
done

lock_cache
prepare_guests $(for bug; do field Guests; done | xargs -n 1 | sort -u)
missed=()
for bug; do
	test_bug
done
make_series_trees
[ ${#missed[@]} -eq 0 ] || die "not found: $(printf '%s; ' "${missed[@]}")"
