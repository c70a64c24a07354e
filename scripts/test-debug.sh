#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test-debug.sh [PART...]: the tests that are too long for "make test", each with its
# own kernels, on four processors. Without a PART, all of them:
#
#   suite   all tests of "make test", on kernels that check memory, locks, data races
#   churn   processes that do everything at once and are killed, on the same kernels
#   race    millions of calls while files are closed and opened
#   fuzz    millions of calls with any arguments
#   replay  a million operations, with the same results on each kernel
#   faults  faults injected into lookups
#   kunit   the tests inside the kernel, on all architectures

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/testing.sh
. "$scripts/testing.sh"

# What runs: the part, the guest, and the parts of in-guest.sh.
plan="
suite	x86_64:debug	implementation kcmp tfd model=5000 fuzz=200000 replay=50000 race=200000 faults where example kmemleak
suite	x86_64:kcsan	implementation kcmp tfd model=5000 fuzz=200000 replay=50000 race=200000 faults where example
churn	x86_64:debug	implementation churn=300 kmemleak
churn	x86_64:kcsan	implementation churn=300
churn	arm64:rust	implementation churn=60
race	x86_64:rust	implementation race=20000000
race	x86_64:debug	implementation race=1000000
race	x86_64:c	implementation race=2000000
race	x86_64:base	implementation race=2000000
fuzz	x86_64:rust	implementation fuzz=10000000
fuzz	x86_64:debug	implementation fuzz=2000000
fuzz	arm64:rust	implementation fuzz=2000000
replay	x86_64:base	implementation replay=1000000
replay	x86_64:rust	implementation replay=1000000
replay	arm64:rust	implementation replay=1000000
faults	x86_64:faults	implementation faults
kunit	um:kunit
kunit	x86_64:kunit
kunit	arm64:kunit
"

[ $# -gt 0 ] || set -- suite churn race fuzz replay faults kunit
for part; do
	grep -q "^$part	" <<<"$plan" ||
		die "unknown part '$part': PARTS are $(awk '{ print $1 }' <<<"$plan" | uniq | xargs)"
done

export GUEST_CPUS=${GUEST_CPUS:-4} GUEST_MEMORY=${GUEST_MEMORY:-4G} GUEST_SECONDS=${GUEST_SECONDS:-5400}
lock_cache
selected=$(for part; do grep "^$part	" <<<"$plan"; done)
mapfile -t guests < <(cut -f 2 <<<"$selected")
prepare_guests "${guests[@]}"
while IFS=$'\t' read -r part guest tests; do
	# shellcheck disable=SC2086 # these are words
	test_in_guest "debug-$part-${guest/:/-}" "$guest" $tests
done <<<"$selected"
report_tests --notes
