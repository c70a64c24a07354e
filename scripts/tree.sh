#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# tree.sh: make the kernel trees, and print the path of the folder that they are in.

. "$(dirname "$0")/lib/common.sh"

# Only the path goes to stdout, progress (3) and what the trees lack do not.
{
	lock_cache
	install_packages git rsync
	make_base
	update_trees
} >&2 3>&2
echo "$trees"
