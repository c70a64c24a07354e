#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# bisect-check.sh [N...]: build each commit of all series, or only the N-th ones, for
# x86_64 and arm64, with Rust and without, the last one also without epoll and without
# kcmp; boot each kernel, and run the tests that the series have by then. Fails if one
# does not build, if a compiler warns about a file of the series, and if a test fails.

. "$(dirname "$0")/lib/common.sh"

archs=(x86_64 arm64)
# Each runs dozens of times.
parts="if-there kcmp tfd tfd32 model=1000 fuzz=20000 replay=2000 faults lsepoll example"

# A kernel that was built with a warning is built anew the next time, to warn again.
refuse_warnings() {
	local arch=$1 kind=$2
	our_findings "$build/log/kernel-$arch-$kind.log" >&2 && return
	rm -rf "$only_tree/build-$arch-$kind"
	die "commit $number warns, with $kind on $arch"
}

# check_commit KIND...: build the commit that is checked out, and test it.
check_commit() {
	local arch kind tests
	for arch in "${archs[@]}"; do
		build_programs "$arch"
		for kind; do
			case $kind in
			no[ek]*) tests=tfd ;;
			*) tests=$parts ;;
			esac
			[ "$arch" = x86_64 ] || tests=${tests/tfd32 /}
			# shellcheck disable=SC2086 # these are words
			test_in_guest "bisect-$number-$arch-$kind" "$arch:$kind" $tests
			refuse_warnings "$arch" "$kind"
		done
	done
}

lock_cache
set_up "${archs[@]}"
make_series_trees
for arch in "${archs[@]}"; do
	fetch_root "$arch" rust
done
mapfile -t commits < <(series_commits)
last=${#commits[@]}
# shellcheck disable=SC2046 # these are words
[ $# -gt 0 ] || set -- $(seq "$last")
for number; do
	seq "$last" | grep -qxF -- "$number" ||
		die "the series have no commit '$number': COMMITS are numbers from 1 to $last"
done

mkdir -p "$results"
only_tree=$trees/bisect
for number; do
	commit=${commits[number - 1]}
	label="commit $number, "
	say "commit $number of $last: $(git -C "$base_tree" log -1 --format=%s "$commit")"
	# What has not changed from one commit to the next is not built again.
	check_out "$only_tree" "$commit"
	kinds=(norust rust-off)
	[ ! -e "$only_tree/kernel/kcmp_epoll.rs" ] || kinds=(norust rust)
	[ "$number" -ne "$last" ] || kinds+=(noepoll nokcmp)
	check_commit "${kinds[@]}"
done
report_tests --brief
