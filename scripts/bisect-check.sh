#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# bisect-check.sh [N...]: build each commit of the series, or only the N-th ones, for
# x86_64 and arm64, with Rust and without, the last one also without epoll and without
# kcmp; boot each kernel, and run the tests that the series has by then. Fails if one
# does not build, if a compiler warns about a file of the series, and if a test fails.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
export KCMP_TREE=bisect
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/testing.sh
. "$scripts/testing.sh"

archs=(x86_64 arm64)
# Each runs dozens of times.
parts="kcmp tfd model=1000 fuzz=20000 replay=2000 faults where example"

make_tree() {
	[ -e "$series_tree/.git" ] && return
	rm -rf "$series_tree"
	git -C "$base_tree" worktree prune
	git -C "$base_tree" worktree add -q --force --detach "$series_tree" "${commits[0]}"
}

# What has not changed from one commit to the next is not built again.
check_out() {
	git -C "$series_tree" reset -q --hard
	git -C "$series_tree" checkout -q --detach "$1"
}

# The parts whose programs are there.
parts_there() {
	local part name
	for part in $parts; do
		name=${part%=*}
		case $name in
		kcmp | example) name=kcmp_${name/kcmp/test} ;;
		replay | where) name=kcmp_epoll_$name ;;
		*) name=kcmp_epoll_${name}_test ;;
		esac
		[ ! -x "$build/guest/$1/$name" ] || echo "$part"
	done
}

# A kernel that was built with a warning is built anew the next time, to warn again.
refuse_warnings() {
	local arch=$1 kind=$2
	our_findings "$build/log/kernel-$arch-$kind.log" >&2 && return
	rm -rf "$series_tree/build-$arch-$kind"
	die "commit $number warns, with $kind on $arch"
}

# check_commit KIND...: build the commit that is checked out, and test it.
check_commit() {
	local arch kind tests
	for arch in "${archs[@]}"; do
		"$scripts/programs.sh" "$arch"
		for kind; do
			case $kind in
			no[ek]*) tests=tfd ;;
			*) tests=$(parts_there "$arch") ;;
			esac
			# shellcheck disable=SC2086 # these are words
			test_in_guest "bisect-$number-$arch-$kind" "$arch:$kind" $tests
			refuse_warnings "$arch" "$kind"
		done
	done
}

lock_cache
"$scripts/setup.sh" "${archs[@]}"
KCMP_TREE='' "$scripts/trees.sh" series
for arch in "${archs[@]}"; do
	"$scripts/root.sh" "$arch" rust
done
mapfile -t commits < <(series_commits)
last=${#commits[@]}
# shellcheck disable=SC2046 # these are words
[ $# -gt 0 ] || set -- $(seq "$last")
for number; do
	seq "$last" | grep -qxF -- "$number" ||
		die "the series has no commit '$number': COMMITS are numbers from 1 to $last"
done

mkdir -p "$results"
make_tree
for number; do
	commit=${commits[number - 1]}
	label="commit $number, "
	say "commit $number of $last: $(git -C "$base_tree" log -1 --format=%s "$commit")"
	check_out "$commit"
	kinds=(norust c)
	[ ! -e "$series_tree/kernel/kcmp_epoll.rs" ] || kinds=(norust rust)
	[ "$number" -ne "$last" ] || kinds+=(noepoll nokcmp)
	check_commit "${kinds[@]}"
done
report_tests --brief
