#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test.sh ARCH:KIND...: build these kernels, run all tests in a guest on each, and
# print the results. TESTS, if given, are the parts of in-guest.sh to run instead of all.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/testing.sh
. "$scripts/testing.sh"

lock_cache
prepare_guests "$@"
for guest; do
	# shellcheck disable=SC2086 # these are words
	test_in_guest "${guest/:/-}" "$guest" ${TESTS:-$all_tests}
done
# shellcheck disable=SC2119 # it takes options of its own
report_tests
