#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# test-debug.sh [PART...]: run the tests that take too long for "make test", on the
# kernels in test-debug.plan, with four CPUs. Without a PART, all of them.

. "$(dirname "$0")/lib/common.sh"

plan=$(grep '^[a-z]' "$top/scripts/test-debug.plan")
mapfile -t parts < <(cut -f 1 <<<"$plan" | uniq)
[ $# -gt 0 ] || set -- "${parts[@]}"
for part; do
	[[ " ${parts[*]} " == *" $part "* ]] || die "unknown part '$part': PARTS are ${parts[*]}"
done
selected=$(for part; do grep "^$part	" <<<"$plan"; done)

STEPS=${STEPS:-5000} # these kernels are slow
export GUEST_CPUS=${GUEST_CPUS:-4} GUEST_MEMORY=${GUEST_MEMORY:-4G} GUEST_SECONDS=${GUEST_SECONDS:-5400}
lock_cache
prepare_guests $(cut -f 2 <<<"$selected")
[[ " $* " != *' others '* ]] || step zdtm "building CRIU's own tests" make_zdtm
while IFS=$'\t' read -r part guest tests; do
	test_in_guest "debug-$part-${guest/:/-}" "$guest" $tests
done <<<"$selected"
report_tests --notes
[[ " $* " != *' criu '* ]] || "$lib/results.py" criu "$results"/debug-criu-*.tap
