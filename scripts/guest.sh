#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# guest.sh ARCH KIND SECONDS LOG [COMMAND...]: boot a kernel under virtme-ng and run
# COMMAND in it, with build/guest/ARCH as /mnt; without a command, an interactive
# shell. The kernel's messages go to the file LOG.
#
# Fails if the command does, if the guest takes longer than SECONDS, and if the
# kernel complained.
#
# From the environment: GUEST_CPUS and GUEST_MEMORY, what the guest has (2 and 1G);
# GUEST_ACCEL, how it runs: kvm, tcg, or what works (the default); GUEST_QEMU,
# options for QEMU; GUEST_APPEND, for the kernel.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/toolchain.sh
. "$scripts/toolchain.sh"

[ $# -ge 4 ] || die "usage: guest.sh ARCH KIND SECONDS LOG [COMMAND...]"
arch=$1 kind=$2 seconds=$3 log=$4
shift 4
image=$(kernel_image "$kind" "$arch")
root=$(guest_root "$arch" "$kind")

# vng starts other programs of its kind by name. 9p, for virtiofs is not everywhere,
# and vng takes a while to find out.
PATH=$venv/bin:$PATH
vng=(vng --run "$image" --cpus "${GUEST_CPUS:-2}" --memory "${GUEST_MEMORY:-1G}" --force-9p
	--cwd "$root" --rodir="/mnt=$build/guest/$arch")
[ -z "${GUEST_QEMU:-}" ] || vng+=("--qemu-opts=$GUEST_QEMU")
[ -z "${GUEST_APPEND:-}" ] || vng+=(--append "$GUEST_APPEND")
[ "$root" = / ] || vng+=(--root "$root")
[ "$arch" = "$(uname -m)" ] || vng+=(--arch "$arch")

# boot SECONDS COMMAND...: the output of the command, and its exit status. QEMU
# opens the outputs more than once: they have to be pipes.
boot() {
	local seconds=$1 pid status=0
	shift
	set -m
	timeout --kill-after=5 "$seconds" "${vng[@]}" --verbose -- "$@" </dev/null \
		> >(cat) 2> >(tr -d '\r' >"$log") &
	pid=$!
	set +m
	# shellcheck disable=SC2064 # expands now
	trap "kill -TERM -- -$pid 2>/dev/null; die interrupted" INT TERM
	wait "$pid" || status=$?
	trap - INT TERM
	return "$status"
}

# True if KVM starts guests here. Tried once for each kernel of this machine: where
# virtualisation is nested, /dev/kvm may be there, and QEMU fail, or the guest hang
# in its firmware.
kvm_works() {
	local answer=no known
	known=$cache/kvm-$(uname -r)
	if [ ! -w /dev/kvm ] || [ "$arch" != "$(uname -m)" ]; then
		return 1
	fi
	if [ ! -e "$known" ]; then
		say "trying whether /dev/kvm starts a guest (once, 30 s at most)" >&2
		! boot 30 true || answer=yes
		echo $answer >"$known"
		say "it does: $answer; remembered in $known" >&2
	fi
	[ "$(cat "$known")" = yes ]
}

mkdir -p "$(dirname "$log")"
case ${GUEST_ACCEL:-} in
tcg) vng+=(--disable-kvm) ;;
kvm) kvm_works || die "KVM starts no $arch guest here" ;;
*) kvm_works || vng+=(--disable-kvm) ;;
esac

if [ $# -eq 0 ]; then
	say "a shell in the guest; leave it by 'exit'"
	exec "${vng[@]}"
fi

status=0
boot "$seconds" "$@" || status=$?
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
