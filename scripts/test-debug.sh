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
#   criu    processes with large interest lists, dumped and restored by CRIU
#   others  what others wrote for epoll and kcmp: stress-ng, and CRIU's own tests
#   kunit   the tests inside the kernel, on all architectures

# shellcheck source=scripts/lib/all.sh
. "$(dirname "$0")/lib/all.sh"

# These kernels are slow.
STEPS=${STEPS:-5000}

# What runs: the part, the guest, and the parts of guest/tests.sh.
plan="
suite	x86_64:debug	$(tests_of x86_64 debug | xargs) kmemleak
suite	x86_64:kcsan	$(tests_of x86_64 kcsan | xargs)
churn	x86_64:debug	churn=300 kmemleak
churn	x86_64:kcsan	churn=300
churn	arm64:rust	churn=60
race	x86_64:rust	race=2000000
race	x86_64:debug	race=100000
race	x86_64:c	race=200000
race	x86_64:kcmp	race=200000
race	x86_64:base	race=200000
fuzz	x86_64:rust	fuzz=10000000
fuzz	x86_64:debug	fuzz=2000000
fuzz	arm64:rust	fuzz=2000000
replay	x86_64:base	replay=1000000
replay	x86_64:rust	replay=1000000
replay	arm64:rust	replay=1000000
faults	x86_64:faults	faults
criu	x86_64:criu-base	criu criu=1000 criu=10000 same-fd=1000 same-fd=10000
criu	x86_64:criu	criu criu=1000 criu=10000 criu=100000 same-fd=1000 same-fd=10000 same-fd=100000
others	x86_64:criu-base	criu stress-ng=60 zdtm
others	x86_64:debug	criu stress-ng=60 zdtm kmemleak
kunit	um:kunit
kunit	x86_64:kunit
kunit	arm64:kunit
"

[ $# -gt 0 ] || set -- suite churn race fuzz replay faults criu others kunit
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
	[ "$part" != others ] || build_zdtm
	# shellcheck disable=SC2086 # these are words
	test_in_guest "debug-$part-${guest/:/-}" "$guest" $tests
done <<<"$selected"
report_tests --notes
[[ " $* " != *' criu '* ]] || "$lib/criu.py" "$results"/debug-criu-*.tap
