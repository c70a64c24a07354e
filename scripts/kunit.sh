#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# kunit.sh: run the tests inside the kernel on all architectures.

exec "$(dirname "$0")/test.sh" um:kunit x86_64:kunit arm64:kunit
