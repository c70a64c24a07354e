#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-bugs.sh [BUG...]: put each bug of kselftest/bugs/ into a kernel, and see that the
# tests which have to find it do. Without a BUG, all of them.

# shellcheck source=scripts/lib/all.sh
. "$(dirname "$0")/lib/all.sh"

bugs=$top/kselftest/bugs

# put_in BUG: change the tree of the series that the bug is for: that of 3-rust, unless its
# head says otherwise. A patch may name files of this repository.
put_in() {
	local patch=$results/bug-$1.patch series
	series=$(head_line "$bugs/$1.patch" Series)
	awk 'NR == FNR { to[$1] = $2; next }
		/^(diff --git|---|\+\+\+) / {
			for (i = 2; i <= NF; i++)
				if (substr($i, 3) in to)
					$i = substr($i, 1, 2) to[substr($i, 3)]
		}
		{ print }' "$top/series/files" "$bugs/$1.patch" >"$patch"
	apply_diff "$patch" "$trees/${series:-3-rust}"
}

# test_bug BUG: say what was found, and remember in missed if something was not.
test_bug() {
	local guest program report=$results/bug-$1 gathered=()
	say "the bug $1: $(head -n 1 "$bugs/$1.patch")"
	make_series_trees
	put_in "$1"
	for guest in $(head_line "$bugs/$1.patch" Guests); do
		# shellcheck disable=SC2046 # these are words
		test_in_guest "bug-$1-${guest/:/-}" "$guest" $(head_line "$bugs/$1.patch" Tests)
	done
	report_tests >"$report" || true
	for program in $(head_line "$bugs/$1.patch" Red); do
		if grep -Eq " $program +[0-9]+ passed, [1-9][0-9]* failed" "$report"; then
			say "$1: found by $program"
		else
			say "$1: NOT found by $program: see $report"
			missed+=("$1: $program")
		fi
	done
}

if [ $# -eq 0 ]; then
	for patch in "$bugs"/*.patch; do
		set -- "$@" "$(basename "$patch" .patch)"
	done
fi
for bug; do
	[ -f "$bugs/$bug.patch" ] || die "no such bug: kselftest/bugs/ has no $bug.patch"
done

lock_cache
# shellcheck disable=SC2046 # these are words
prepare_guests $(for bug; do head_line "$bugs/$bug.patch" Guests; done | xargs -n 1 | sort -u)
missed=()
for bug; do
	test_bug "$bug"
done
make_series_trees
[ ${#missed[@]} -eq 0 ] || die "not found by all tests that should: $(printf "%s; " "${missed[@]}")"
