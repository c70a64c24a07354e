#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bisect-check.sh [N...]: build each commit of all series, or only the N-th ones, for
# x86_64 and arm64, with and without Rust, the last one also without epoll and without
# kcmp; boot each kernel, and run the tests that exist at that commit. Fails if a kernel
# does not build, if a compiler warns about a file of the series, or if a test fails.

. "$(dirname "$0")/lib/common.sh"

archs=(x86_64 arm64)
# Short: each runs dozens of times.
parts="if-there kcmp tfd cases model=1000 cursor=1000 fuzz=20000 replay=2000 faults demo example"

# check_commit KIND...: build the commit that is checked out, and test it. A kernel whose
# build warns is removed, so that the next run warns again.
check_commit() {
	local arch kind tests
	for arch in "${archs[@]}"; do
		build_programs "$arch"
		for kind; do
			tests=$parts
			[[ $kind != no[ek]* ]] || tests=tfd
			test_in_guest "bisect-$number-$arch-$kind" "$arch:$kind" $tests
			our_findings "$build/log/kernel-$arch-$kind.log" >&2 || {
				rm -rf "$only_tree/build-$arch-$kind"
				die "commit $number: warnings in the $arch kernel ($kind)"
			}
		done
		wait_for_guests 0 # they use the programs
	done
}

lock_cache
prepare_guests "${archs[@]/%/:rust}"
mapfile -t commits < <(series_commits)
last=${#commits[@]}
[ $# -gt 0 ] || set -- $(seq "$last")
for number; do
	seq "$last" | grep -qxF -- "$number" ||
		die "there is no commit '$number': COMMITS are numbers from 1 to $last"
done

only_tree=$trees/bisect
beside=yes
for number; do
	commit=${commits[number - 1]}
	label="commit $number, "
	say "commit $number of $last: $(git -C "$base_tree" log -1 --format=%s "$commit")"
	# All commits share a tree: files that a commit does not change are not rebuilt.
	check_out "$only_tree" "$commit"
	kinds=(norust rust-off)
	[ ! -e "$only_tree/kernel/kcmp_epoll.rs" ] || kinds=(norust rust)
	[ "$number" -ne "$last" ] || kinds+=(noepoll nokcmp)
	check_commit "${kinds[@]}"
	report_tests --brief # of all commits so far
done
