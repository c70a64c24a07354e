#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# test.sh ARCH:KIND...: build these kernels, run all tests in a guest on each, and
# print the results. TESTS, if given, are the parts of guest/tests.sh to run instead of all.

. "$(dirname "$0")/lib/common.sh"

lock_cache
prepare_guests "$@"
for guest; do
	test_in_guest "${guest/:/-}" "$guest" ${TESTS:-all}
done
report_tests
