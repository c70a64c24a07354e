#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bench.sh ARCH: measure the unpatched kernel and one after each series, side by side,
# and show the results: see results.py. MAX is the largest number of entries.
#
# In a guest under TCG with -icount, the clock advances a nanosecond with each instruction:
# the results are the same on every host. With sleep=off, the clock would also run ahead while
# the guest waits for the host, and virtme-ng's init would time out on its ports.

. "$(dirname "$0")/lib/common.sh"

arch=$1
max=${MAX:-1000000}
kinds=(base kcmp epoll c rust)
out=$results/bench-$arch

# Build "perf bench epoll" of the base. The linker leaves out what it does not call.
make_perf() {
	local gcc=gcc perf_arch=x86
	[ "$arch" = x86_64 ] || gcc=aarch64-linux-gnu-gcc perf_arch=arm64
	cd "$base_tree/tools/perf"
	"$gcc" -O3 -w -static -ffunction-sections -Wl,--gc-sections \
		-D_GNU_SOURCE -DHAVE_EVENTFD_SUPPORT -DHAVE_PTHREAD_ATTR_SETAFFINITY_NP \
		-I{.,util,util/include,../include,../include/uapi,../arch/$perf_arch/include,../lib,../lib/api,../lib/perf/include} \
		"$top/tools/bench/perf_bench.c" bench/epoll-{ctl,wait}.c util/{mutex,stat,cpumap}.c \
		../lib/subcmd/{parse-options,help,pager,sigchain,exec-cmd,run-command,subcmd-config}.c \
		../lib/perf/{cpumap,core}.c ../lib/{zalloc,ctype,string,str_error_r}.c ../lib/api/{fs/fs,debug}.c \
		-lm -o "$build/guest/$arch/perf_bench"
}

# In a guest: measure. "perf bench" checks the time after each pass over all fds: 30,000 operations of
# 10,000,000 in ten seconds. "ctl" prints totals, "wait" operations per second.
# shellcheck disable=SC2016 # it expands there
measure='
	echo 300 >/proc/sys/kernel/ns_last_pid # below 64, looking up a pid takes 14 instructions less
	/mnt/kcmp_epoll_bench --max $0 || exit 1
	perf() {
		/mnt/perf_bench "$1" -t 1 -r 10 -f "$2" >/tmp/perf || exit 1
		awk -v name="perf bench epoll $1" -v fds="$2" -v OFS="\t" -v OFMT=%.0f \
			"/^Averaged/ { sum += \$2 / (/sec/ ? 1 : 10) } END { print name, fds, sum }" /tmp/perf
	}
	perf ctl 1000 && perf ctl 10000 && perf wait 1000'

# Each guest has one CPU: run as many guests at a time as the host has CPUs.
measure_all() {
	local -x KVM='' GUEST_QEMU="-icount shift=0,sleep=on" GUEST_CPUS=1 GUEST_MEMORY=${GUEST_MEMORY:-12G}
	local kind pid pids=()
	for kind in "${kinds[@]}"; do
		[ "$(jobs -rp | wc -l)" -lt "$(nproc)" ] || wait -n || true
		in_guest "$arch" "$kind" 10800 "$out/$kind.console" sh -c "$measure" "$max" |
			tee -a "$out/$kind.tsv" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid"
	done
}

# Print the versions of the kernel and of the tools, as results.py reads them.
versions() {
	printf '%s\n' "linux=$(make -s -C "$base_tree" kernelversion)" \
		"clang=$("$clang" -dumpversion)" "rustc=$(rustc_version)" \
		"qemu=$("qemu-system-${arch/arm64/aarch64}" --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')"
}

# sizes KIND: print the text sizes of the functions that only KCMP_EPOLL_TFD needs, as results.
sizes() {
	local code='kcmp_epoll|get_epoll_tfile_raw_ptr|ep_find_tfd|CRbTree|eventpoll.*(EventPoll|InterestList|Target)|AnyFile|FileId'
	"llvm-nm${llvm/#1/}" --print-size --defined-only --radix=d "$(tree_of "$1")/build-$arch-$1/vmlinux" |
		awk -v code="$code" 'tolower($3) == "t" && $4 ~ code {
			print "text of " $4 "\t0\t" $2 + 0
			sum += $2
		}
		END { print "bytes of text\t0\t" sum }'
}

[[ $max =~ ^[0-9]+$ ]] || die "MAX=$max is not a number"
lock_cache
prepare_guests "${kinds[@]/#/$arch:}"
install_python "$cache/matplotlib-python" matplotlib==3.10.7
rm -rf "$out"
mkdir -p "$out"
versions >"$out/versions"
for kind in "${kinds[@]}"; do
	build_kernel "$arch" "$kind"
	sizes "$kind" >"$out/$kind.tsv"
done
step perf-bench "building perf bench epoll" make_perf
step "bench-$arch" "counting instructions with up to $max entries, in $arch guests" measure_all
"$cache/matplotlib-python/bin/python" "$lib/results.py" bench "$arch" "$out"
