#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# run.sh ARCH: build a kernel with the series, boot it, and run lsepoll --demo in it.

. "$(dirname "$0")/lib/common.sh"

arch=$1
lock_cache
prepare_guests "$arch:rust"
build_kernel "$arch" rust
in_guest "$arch" rust 120 "$results/run-$arch.console" /mnt/lsepoll --demo
