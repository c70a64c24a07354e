#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# setup.sh ARCH...: install the missing packages and tools to build and boot kernels for
# these architectures, and fetch the base kernel.

. "$(dirname "$0")/lib/common.sh"

lock_cache
set_up "$@"
