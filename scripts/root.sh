#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# root.sh ARCH: make what a guest of another architecture has as its root: a small
# Debian, unpacked and not configured, for no program of it can run here.
#
# A guest of this machine's architecture has this machine's root, read-only.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/packages.sh
. "$scripts/packages.sh"

[ $# -eq 1 ] || die "usage: root.sh ARCH"
arch=$1
root=$cache/root-$arch

make_root() {
	local part=$root.part deb
	as_root rm -rf "$part" "$root"
	as_root debootstrap --foreign --arch="$arch" --variant=minbase \
		--include=udev,iproute2,busybox-static bookworm "$part" "$(mirror)" ||
		die "no network: Debian's packages for $arch cannot be fetched"
	for deb in "$part"/var/cache/apt/archives/*.deb; do
		as_root dpkg-deb -x "$deb" "$part"
	done
	as_root rm -rf "$part"/var/cache/apt/archives "$part/debootstrap"
	# What configuring the packages would have made.
	as_root ln -s busybox "$part/bin/poweroff"
	as_root ln -s mawk "$part/usr/bin/awk"
	as_root cp "$part/usr/share/base-passwd/passwd.master" "$part/etc/passwd"
	as_root cp "$part/usr/share/base-passwd/group.master" "$part/etc/group"
	as_root mkdir -p "$part/mnt"
	as_root touch "$part/complete"
	as_root mv "$part" "$root"
}

[ "$arch" != "$(uname -m)" ] || exit 0
lock_cache
[ -e "$root/complete" ] || step "root-$arch" "fetching a root file system for $arch guests (Debian)" make_root
