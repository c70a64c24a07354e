# SPDX-License-Identifier: GPL-2.0
# Boots kernels under virtme-ng. Guests see build/guest/ARCH as /mnt.

# guest_root ARCH KIND: print the root file system of a guest: the host's if that will do.
guest_root() {
	case $1-$2 in
	x86_64-criu* | x86_64-debug | arm64-*) echo "$cache/root-$1" ;;
	*) echo / ;;
	esac
}

# Unpack a small Debian. It is not configured, since it may be of another architecture.
make_root() {
	local arch=$1 root=$2 part=$2.part packages=udev,iproute2,busybox-static deb
	[ "$arch" != x86_64 ] || packages+=,criu,stress-ng,strace
	as_root rm -rf "$part" "$root"
	as_root debootstrap --foreign --arch="${arch/x86_64/amd64}" --variant=minbase \
		--include="$packages" "$guest_suite" "$part" "$(mirror)" ||
		die "cannot fetch Debian's packages for $arch: no network?"
	for deb in "$part"/var/cache/apt/archives/*.deb; do
		as_root dpkg-deb -x "$deb" "$part"
	done
	as_root rm -rf "$part"/var/cache/apt/archives "$part/debootstrap"
	# Configuring the packages would have made these.
	as_root ln -s busybox "$part/bin/poweroff"
	as_root ln -s mawk "$part/usr/bin/awk"
	as_root cp "$part/usr/share/base-passwd/passwd.master" "$part/etc/passwd"
	as_root cp "$part/usr/share/base-passwd/group.master" "$part/etc/group"
	as_root mkdir -p "$part/mnt"
	as_root mv "$part" "$root"
}

# fetch_root ARCH KIND: make the root file system that guest_root() prints, if it is missing.
fetch_root() {
	local root
	root=$(guest_root "$1" "$2")
	[ -d "$root" ] || step "root-$1" \
		"fetching a root file system for $1 guests (Debian $guest_suite)" make_root "$1" "$root"
}

# find_vng ARCH KIND: set vng, the command that boots a guest. Uses 9p: not every host has
# virtiofs, and vng takes a while to find out.
#
# From the environment: GUEST_CPUS and GUEST_MEMORY (2 and 1G); GUEST_QEMU, options for QEMU;
# KVM=1, to use KVM: with nested virtualization, /dev/kvm may exist and yet start no guest.
find_vng() {
	local root
	root=$(guest_root "$1" "$2")
	# vng starts the other programs of virtme-ng by name.
	PATH=$venv/bin:$PATH
	vng=(vng --run "$(kernel_image "$2" "$1")" --arch "${1/x86_64/amd64}" --cpus "${GUEST_CPUS:-2}" --root "$root"
		--memory "${GUEST_MEMORY:-1G}" --force-9p --cwd "$root" --rodir="/mnt=$build/guest/$1")
	[ -z "${GUEST_QEMU:-}" ] || vng+=("--qemu-opts=$GUEST_QEMU")
	[ -n "${KVM:-}" ] || vng+=(--disable-kvm)
}

# in_guest ARCH KIND SECONDS LOG COMMAND...: boot a kernel, run COMMAND in it, and print its
# output. The kernel's messages go to the file LOG. Fails if the command does, if the guest
# takes longer than SECONDS, or if the log matches "complaints".
in_guest() {
	local seconds=$3 log=$4 status vng out err pids
	find_vng "$1" "$2"
	# QEMU opens the outputs more than once: they have to be pipes.
	exec {out}> >(cat)
	pids=$!
	exec {err}> >(tr -d '\r' >"$log")
	pids+=" $!"
	# shellcheck disable=SC2261 # two different redirections
	apart timeout --kill-after=5 "$seconds" "${vng[@]}" --verbose -- "${@:5}" >&"$out" 2>&"$err"
	exec {out}>&- {err}>&-
	wait $pids

	if grep -E -A 20 -f "$lib/complaints" "$log" >"$log.complaints"; then
		head -n 40 "$log.complaints" >&2
		die "the kernel complained: see $log"
	fi
	rm "$log.complaints"
	case $status in
	124 | 137) tail -n 5 "$log" >&2 && die "the guest took longer than $seconds s: see $log" ;;
	0) ;;
	*) die "the command failed in the guest with status $status: see $log" ;;
	esac
}
