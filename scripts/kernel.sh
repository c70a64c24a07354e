#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kernel.sh ARCH KIND: build a kernel from its tree (see tree.sh), with the
# fragments of configs/ on top of allnoconfig.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/toolchain.sh
. "$scripts/toolchain.sh"

[ $# -eq 2 ] || die "usage: kernel.sh ARCH KIND"
arch=$1 kind=$2
tree=$(tree_of "$kind")
out=build-$arch-$kind
image=$(kernel_image "$kind" "$arch")

mapfile -t fragments < <(fragments_of "$kind" "$arch")

# Stop if an option of the fragments is not in .config as it was asked for.
check_config() {
	local want
	while read -r want; do
		case $want in
		CONFIG_*=n) ! grep -q "^${want%=n}=" "$tree/$out/.config" ;;
		CONFIG_*) grep -qxF "$want" "$tree/$out/.config" ;;
		esac || die "$want was asked for, and the $arch kernel ($kind) cannot have it"
	done < <(cat "${fragments[@]}")
}

build_kernel() {
	mkdir -p "$tree/$out"
	cat "${fragments[@]}" >"$tree/$out/all.config"
	# kconfig does not say why: the kernel's own check does.
	kernel_make "$tree" "$arch" "$out" rustavailable
	kernel_make "$tree" "$arch" "$out" KCONFIG_ALLCONFIG="$tree/$out/all.config" allnoconfig
	check_config
	kernel_make "$tree" "$arch" "$out" "$(basename "$image")"
}

lock_cache
find_tools
step "kernel-$arch-$kind" "building the $arch kernel ($kind)" build_kernel
