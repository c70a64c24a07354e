#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# bench.sh ARCH: measure the unpatched kernel, and the series with the lookup in C
# and in Rust, side by side, and write what came out to benchmark/ARCH.json, from
# which bench.py makes the table and the plot. MAX is the largest number of targets.
#
# In a guest under TCG with -icount the clock advances a nanosecond with each
# instruction: what is measured is the same on every machine. With sleep=off it would
# also run ahead while the guest waits for this machine, and virtme-ng's init give up
# on its ports. Where KVM works, it is measured in nanoseconds as well.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/toolchain.sh
. "$scripts/toolchain.sh"
# shellcheck source=scripts/packages.sh
. "$scripts/packages.sh"

[ $# -eq 1 ] || die "usage: bench.sh ARCH"
arch=$1
max=${MAX:-1000000}
kinds=(base c rust)
results=$build/results/bench-$arch
plot_python=$cache/matplotlib-python
# Rounds under KVM: the kernels take turns, so that what else the machine does
# falls on all of them.
rounds=5

case $max in
*[!0-9]* | '') die "MAX=$max is no number" ;;
esac

# measure KIND NAME: leaves the results in a file, and shows them.
measure() {
	GUEST_CPUS=1 GUEST_MEMORY=${GUEST_MEMORY:-12G} "$scripts/guest.sh" "$arch" "$1" 3600 \
		"$results/$2.console" /mnt/kcmp_epoll_bench --max "$max" | tee "$results/$2.tsv"
}

measure_instructions() {
	local -x GUEST_ACCEL=tcg GUEST_QEMU="-icount shift=0,sleep=on"
	# A guest has one processor: run as many as there are.
	export -f measure
	export scripts arch max results
	printf '%s\n' "${kinds[@]}" |
		xargs -P "$(nproc)" -I{} bash -euo pipefail -c 'measure {} instructions-{}'
}

measure_nanoseconds() {
	local -x GUEST_ACCEL=kvm
	local round kind
	for ((round = 1; round <= rounds; round++)); do
		for kind in "${kinds[@]}"; do
			measure "$kind" "nanoseconds-$kind-$round"
		done
	done
}

# What made the results, as bench.py takes it.
versions() {
	printf '%s\n' "linux=$(make -s -C "$base_tree" kernelversion)" \
		"clang=$("$clang" -dumpversion)" "rustc=$(rustc_version)" \
		"qemu=$("$(qemu)" --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')"
}

qemu() {
	case $arch in
	x86_64) echo qemu-system-x86_64 ;;
	arm64) echo qemu-system-aarch64 ;;
	esac
}

# The code that answers, with the helpers that the series adds for it: bytes of text.
sizes() {
	local kind code own helpers
	own='kcmp_epoll|get_epoll_tfile_raw_ptr|ep_find_tfd|CRbTree|eventpoll.*(EventPoll|InterestSet|Target)|RemoteFile'
	helpers='|rust_helper_(cond_resched|copy_words_from_user)'
	for kind in "${kinds[@]}"; do
		code=$own
		[ "$kind" != rust ] || code+=$helpers
		"llvm-nm${llvm/#1/}" --print-size --defined-only --radix=d \
			"$(tree_of "$kind")/build-$arch-$kind/vmlinux" |
			awk -v kind="$kind" -v code="$code" 'tolower($3) == "t" && $4 ~ code {
				print kind "\t" $4 "\t" $2 + 0
			}'
	done
}

lock_cache
"$scripts/setup.sh" "$arch"
install_python "$plot_python" matplotlib==3.10.7
"$scripts/trees.sh" series
"$scripts/root.sh" "$arch" rust
"$scripts/programs.sh" "$arch"
for kind in "${kinds[@]}"; do
	"$scripts/kernel.sh" "$arch" "$kind"
done
find_tools

rm -rf "$results"
mkdir -p "$results"
versions >"$results/versions"
sizes >"$results/sizes.tsv"
step "bench-$arch" "counting instructions with up to $max targets, in $arch guests" measure_instructions
if GUEST_ACCEL=kvm "$scripts/guest.sh" "$arch" rust 60 "$results/kvm.console" true 2>/dev/null; then
	step "bench-$arch-kvm" "measuring time under KVM, $rounds rounds" measure_nanoseconds
fi
"$plot_python/bin/python" "$scripts/bench.py" "$arch" "$results"
