#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shell.sh ARCH [KIND]: run a shell in a guest, with the tests in /mnt.

. "$(dirname "$0")/lib/common.sh"

arch=$1 kind=${2:-rust}
lock_cache
prepare_guests "$arch:$kind"
build_kernel "$arch" "$kind"
find_vng "$arch" "$kind"
say "a shell in the guest: type 'exit' to leave"
exec "${vng[@]}"
