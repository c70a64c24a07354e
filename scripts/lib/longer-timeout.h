/* SPDX-License-Identifier: GPL-2.0 */
/* For tests that spin on two processors, where QEMU may get neither of this machine's. */
#include "kselftest_harness.h"
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 300
