#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# test.sh ARCH:KIND...: build these kernels, run all tests in a guest with each, and
# print the results. If TESTS is set, run only these parts of guest/tests.sh.

. "$(dirname "$0")/lib/common.sh"

lock_cache
prepare_guests "$@"
# Some tests sleep, others compute: two guests at a time.
beside=yes
for guest; do
	test_in_guest "${guest/:/-}" "$guest" ${TESTS:-all}
done
wait_for_guests 0
say "what took how long:"
times
report_tests
