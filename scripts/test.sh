#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test.sh ARCH:KIND...: build these kernels, run all tests in a guest on each, and
# print the results. TESTS, if given, are the parts of guest/tests.sh to run instead of all.

# shellcheck source=scripts/lib/all.sh
. "$(dirname "$0")/lib/all.sh"

lock_cache
prepare_guests "$@"
for guest; do
	# shellcheck disable=SC2046 # these are words
	test_in_guest "${guest/:/-}" "$guest" ${TESTS:-$(tests_of "${guest%:*}" "${guest#*:}")}
done
# shellcheck disable=SC2119 # it takes options of its own
report_tests
