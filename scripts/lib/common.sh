# SPDX-License-Identifier: GPL-2.0
# Sourced by every script, with all of lib/: where things are, progress and errors, the
# lock of the cache.

set -euo pipefail
shopt -s inherit_errexit
# The caller's stdout and stderr, for messages while they are redirected to a log.
exec 3>&1 4>&2

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lib=$top/scripts/lib
# The cache is shared by all checkouts.
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/kcmp-epoll-tfd
build=$top/build
results=$build/results

# die TEXT: print in one line what is wrong and what to do, and exit.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit "${die_status:-1}"
}

say() {
	printf '==> %s\n' "$*"
}

# interrupted [GROUP]: exit, and end the jobs, and a process group. Only the main shell prints a
# message.
interrupted() {
	local jobs
	jobs=$(jobs -p)
	[ -z "$jobs" ] || kill -TERM $jobs 2>/dev/null || true
	[ $# -eq 0 ] || kill -TERM -- "-$1" 2>/dev/null
	[ $BASHPID -ne $$ ] || printf '%s: interrupted\n' "${0##*/}" >&4
	exit 130
}
trap interrupted INT TERM

# apart COMMAND...: run COMMAND, which may be a function, in a process group of its own, so
# that an interrupt ends all of it. Calls $on_tick while it runs. Leaves its exit status in
# $status, and does not return it: bash ignores set -e in a function whose status is tested.
on_tick=:
apart() {
	local pid
	set -m
	on_tick=: "$@" </dev/null &
	pid=$!
	set +m
	# shellcheck disable=SC2064 # expands now
	trap "interrupted $pid" INT TERM
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		$on_tick
	done
	trap interrupted INT TERM
	status=0
	wait "$pid" || status=$?
}

# step NAME TEXT COMMAND...: run COMMAND with its output in a log, and print how long it
# took. If it fails, show the end of the log, or only the message if it called die().
step() {
	local text=$2 begin=$SECONDS shown=$SECONDS status log=$build/log/$1.log on_tick=show_progress
	mkdir -p "$build/log"
	say "$text"
	die_status=99 apart "${@:3}" >"$log" 2>&1
	if [ "$status" -eq 99 ]; then
		tail -n 1 "$log" >&2
		exit 1
	elif [ "$status" -ne 0 ]; then
		tail -n 25 "$log" >&2
		check_space 0.1
		die "$text: failed after $((SECONDS - begin)) s; the log is $log"
	fi
	took $((SECONDS - begin)) "$text"
	printf '    done in %d s\n' $((SECONDS - begin))
}

# took SECONDS TEXT: note how long something took, for times().
took() {
	printf '%6d s  %s\n' "$@" >>"$build/times"
}

# Print what took at least five seconds.
times() {
	awk '$1 >= 5' "$build/times"
}

# Once a minute, show that the step is alive.
show_progress() {
	[ $((SECONDS - shown)) -ge 60 ] || return 0
	shown=$SECONDS
	printf '    %4d s  %s\n' $((SECONDS - begin)) "$(tail -n 1 "$log" | tr -d '\r' | cut -c 1-68)" >&3
}

# check_space GB: fail if the file system of the cache has less space left.
check_space() {
	df --output=avail -k "$cache" | awk -v gb="$1" 'NR == 2 { exit $1 < gb * 1048576 }' ||
		die "the disk is full: $cache needs $1 GB of free space"
}

# One run at a time: all share the cache. This script and its children hold the lock.
lock_cache() {
	mkdir -p "$build"
	rm -f "$build/times"
	mkdir -p "$cache" 2>/dev/null || die "cannot write to $cache: set XDG_CACHE_HOME"
	exec 9>"$cache/lock"
	flock -n 9 || say "waiting for another run that uses $cache"
	flock 9
}

for file in packages toolchain kinds series trees setup kernel guest programs rust-sysroot kunit tests; do
	. "$lib/$file.sh"
done
