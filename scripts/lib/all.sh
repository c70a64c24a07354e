# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced by every script: defines functions, and does nothing else.

# shellcheck source=scripts/lib/common.sh
. "${BASH_SOURCE[0]%/*}/common.sh"
for file in packages toolchain kinds commits trees setup kernel guest programs rust-sysroot kunit tests; do
	# shellcheck source=/dev/null
	. "$lib/$file.sh"
done
