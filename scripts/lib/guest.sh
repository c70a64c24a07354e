# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
#
# Boots kernels under virtme-ng. Guests see build/guest/ARCH as /mnt.

# What a kernel says when something is wrong with it.
complaints='BUG:|WARNING:|Oops|Kernel panic|kernel BUG|Call trace|Call Trace|circular locking|recursive locking'
complaints+='|inconsistent lock|suspicious RCU|INFO: rcu|rcu_preempt detected|INFO: task|soft lockup|hard LOCKUP'
complaints+='|KASAN:|KCSAN:|UBSAN:|kmemleak: .*suspected|ODEBUG|general protection|Unable to handle|refcount_t:|bad page'
complaints+='|protection fault|invalid opcode|Modules linked in'

# guest_root ARCH KIND: the root file system of a guest: that of this machine, read-only,
# unless it cannot be.
guest_root() {
	case $1-$2 in
	*-criu* | *-debug) echo "$cache/root-$1" ;;
	"$(uname -m)"-*) echo / ;;
	*) echo "$cache/root-$1" ;;
	esac
}

# A small Debian, unpacked and not configured: its programs may be those of another
# architecture.
make_root() {
	local arch=$1 root=$2 part=$2.part packages=udev,iproute2,busybox-static deb
	[ "$arch" != x86_64 ] || packages+=,criu,stress-ng
	as_root rm -rf "$part" "$root"
	as_root debootstrap --foreign --arch="${arch/x86_64/amd64}" --variant=minbase \
		--include="$packages" "$guest_suite" "$part" "$(mirror)" ||
		die "no network: Debian's packages for $arch cannot be fetched"
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
	as_root touch "$part/complete"
	as_root mv "$part" "$root"
}

# fetch_root ARCH KIND: fetch what guest_root() names, if need be.
fetch_root() {
	local root
	root=$(guest_root "$1" "$2")
	[ "$root" = / ] || [ -e "$root/complete" ] || step "root-$1" \
		"fetching a root file system for $1 guests (Debian $guest_suite)" make_root "$1" "$root"
}

# Sets vng, the command that boots an ARCH KIND guest. 9p, for virtiofs is not everywhere,
# and vng takes a while to find out.
#
# From the environment: GUEST_CPUS and GUEST_MEMORY of the guest (2 and 1G); GUEST_ACCEL,
# how it runs: kvm, tcg, or what works (the default); GUEST_QEMU, options for QEMU.
find_vng() {
	local arch=$1 kind=$2 root
	root=$(guest_root "$arch" "$kind")
	# vng starts other programs of its kind by name.
	PATH=$venv/bin:$PATH
	vng=(vng --run "$(kernel_image "$kind" "$arch")" --cpus "${GUEST_CPUS:-2}"
		--memory "${GUEST_MEMORY:-1G}" --force-9p --cwd "$root" --rodir="/mnt=$build/guest/$arch")
	[ -z "${GUEST_QEMU:-}" ] || vng+=("--qemu-opts=$GUEST_QEMU")
	[ "$root" = / ] || vng+=(--root "$root")
	[ "$arch" = "$(uname -m)" ] || vng+=(--arch "$arch")
	case ${GUEST_ACCEL:-} in
	tcg) vng+=(--disable-kvm) ;;
	kvm) kvm_works "$arch" || die "KVM starts no $arch guest here" ;;
	*) kvm_works "$arch" || vng+=(--disable-kvm) ;;
	esac
}

# True if KVM starts guests here. Tried once for each kernel of this machine: where
# virtualisation is nested, /dev/kvm may be there, and QEMU fail, or the guest hang
# in its firmware.
kvm_works() {
	local answer=no known status
	known=$cache/kvm-$(uname -r)
	if [ ! -w /dev/kvm ] || [ "$1" != "$(uname -m)" ]; then
		return 1
	fi
	if [ ! -e "$known" ]; then
		say "trying whether /dev/kvm starts a guest (once, 30 s at most)" >&2
		run_vng 30 /dev/null true
		[ "$status" -ne 0 ] || answer=yes
		echo $answer >"$known"
		say "it does: $answer; remembered in $known" >&2
	fi
	[ "$(cat "$known")" = yes ]
}

# run_vng SECONDS LOG COMMAND...: QEMU opens the outputs more than once: they have to be
# pipes. Leaves the exit status in $status.
run_vng() {
	local out err out_pid err_pid
	exec {out}> >(cat)
	out_pid=$!
	exec {err}> >(tr -d '\r' >"$2")
	err_pid=$!
	apart timeout --kill-after=5 "$1" "${vng[@]}" --verbose -- "${@:3}" >&"$out" 2>&"$err"
	exec {out}>&- {err}>&-
	wait "$out_pid" "$err_pid"
}

# in_guest ARCH KIND SECONDS LOG COMMAND...: boot a kernel, run COMMAND in it, and print its
# output. The kernel's messages go to the file LOG. Fails if the command does, if the guest
# takes longer than SECONDS, and if the kernel complained.
in_guest() {
	local arch=$1 kind=$2 seconds=$3 log=$4 status vng
	find_vng "$arch" "$kind"
	mkdir -p "$(dirname "$log")"
	run_vng "$seconds" "$log" "${@:5}"
	if grep -E "$complaints" "$log" >"$log.complaints"; then
		grep -E -A 20 "$complaints" "$log" | head -n 40 >&2
		die "the kernel complained: see $log"
	fi
	rm -f "$log.complaints"
	case $status in
	124 | 137) tail -n 5 "$log" >&2 && die "the guest took longer than $seconds s: see $log" ;;
	0) ;;
	*) die "the command failed in the guest with status $status: see $log" ;;
	esac
}
