#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test.sh ARCH:KIND...: build these kernels, run all tests in a guest on each, and
# print the results. STEPS is the length of the model-based test; TESTS, if given, are
# the parts of in-guest.sh to run instead of all.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/testing.sh
. "$scripts/testing.sh"

all="kcmp tfd model=${STEPS:-20000} fuzz=200000 replay=50000 race=200000 faults where example"

lock_cache
prepare_guests "$@"
for guest; do
	# shellcheck disable=SC2086 # these are words
	test_in_guest "${guest/:/-}" "$guest" implementation ${TESTS:-$all}
done
# shellcheck disable=SC2119 # it takes options of its own
report_tests
