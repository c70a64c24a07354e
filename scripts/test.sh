#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# test.sh ARCH:KIND...: build these kernels, run all tests in a guest with each, and
# print the results. If TESTS is set, run only these parts of guest/tests.sh.

. "$(dirname "$0")/lib/common.sh"

lock_cache
prepare_guests "$@"
for guest; do
	test_in_guest "${guest/:/-}" "$guest" ${TESTS:-all}
done
report_tests
