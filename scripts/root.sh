#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# root.sh ARCH KIND: make what a guest with such a kernel has as its root, if that is not
# this machine's: a small Debian, unpacked and not configured, for its programs may be
# those of another architecture.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/packages.sh
. "$scripts/packages.sh"

[ $# -eq 2 ] || die "usage: root.sh ARCH KIND"
arch=$1 kind=$2
root=$(guest_root "$arch" "$kind")
suite=bookworm packages=udev,iproute2,busybox-static
case $kind in
criu*)
	# The CRIU of bookworm is of 2022.
	suite=trixie packages+=,criu
	;;
esac

make_root() {
	local part=$root.part deb
	as_root rm -rf "$part" "$root"
	as_root debootstrap --foreign --arch="${arch/x86_64/amd64}" \
		--variant=minbase --include="$packages" "$suite" "$part" "$(mirror)" ||
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

[ "$root" != / ] || exit 0
lock_cache
[ -e "$root/complete" ] || step "$(basename "$root")" \
	"fetching a root file system for $arch guests (Debian $suite: ${packages//,/ })" make_root
