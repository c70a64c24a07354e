#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kernel.sh ARCH KIND [TARGET...]: build a kernel from its tree (see tree.sh), with the
# fragments of configs/ on top of allnoconfig. With a TARGET, build that instead.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/toolchain.sh
. "$scripts/toolchain.sh"

[ $# -ge 2 ] || die "usage: kernel.sh ARCH KIND [TARGET...]"
arch=$1 kind=$2
shift 2
tree=$(tree_of "$kind")
out=build-$arch-$kind
image=$(kernel_image "$kind" "$arch")
[ $# -gt 0 ] || set -- "$(basename "$image")"

mapfile -t fragments < <(fragments_of "$kind" "$arch")

# Stop if an option is not in .config as the last fragment that has it asks for it.
check_config() {
	local want
	while read -r want; do
		case $want in
		CONFIG_*=n) ! grep -q "^${want%=n}=" "$tree/$out/.config" ;;
		CONFIG_*) grep -qxF "$want" "$tree/$out/.config" ;;
		esac || die "$want was asked for, and the $arch kernel ($kind) cannot have it"
	done < <(cat "${fragments[@]}" | tac | awk -F = '!seen[$1]++')
}

build_kernel() {
	mkdir -p "$tree/$out"
	cat "${fragments[@]}" >"$tree/$out/all.config"
	# kconfig does not say why: the kernel's own check does.
	kernel_make "$tree" "$arch" "$out" rustavailable
	kernel_make "$tree" "$arch" "$out" KCONFIG_ALLCONFIG="$tree/$out/all.config" allnoconfig
	check_config
	kernel_make "$tree" "$arch" "$out" "$@"
}

lock_cache
find_tools
step "kernel-$arch-$kind" "building the $arch kernel ($kind)" build_kernel "$@"
