/* SPDX-License-Identifier: GPL-2.0 */
/* For tests that spin on two virtual CPUs, which a busy host may not run at the same time. */
#include "kselftest_harness.h"
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 300
