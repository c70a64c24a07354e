# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# What every script shares: where things are, and how to say what goes on.
# Sourced, not run.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scripts=$top/scripts

# Whatever is expensive to make and the same for every checkout.
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/kcmp-epoll-tfd
# Logs and results of this checkout.
build=$top/build

# What a kernel says when something is wrong with it.
complaints='BUG:|WARNING:|Oops|Kernel panic|kernel BUG|Call trace|Call Trace|circular locking|recursive locking'
complaints+='|inconsistent lock|suspicious RCU|INFO: rcu|rcu_preempt detected|INFO: task|soft lockup|hard LOCKUP'
complaints+='|KASAN:|KCSAN:|UBSAN:|kmemleak: .*suspected|ODEBUG|general protection|Unable to handle|refcount_t:|bad page'
complaints+='|protection fault|invalid opcode|Modules linked in'

# die TEXT: say in one line what is wrong and what to do, and stop.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit "${die_status:-1}"
}

# say TEXT: a line of progress.
say() {
	printf '==> %s\n' "$*"
}

# step NAME TEXT COMMAND...: run COMMAND, which may be a function, with its output
# in a log, and say how long it took. Once a minute, show that it is alive. If it
# fails, show the end of the log, or just what it gave to die().
step() {
	local name=$1 text=$2 begin=$SECONDS shown=$SECONDS pid status=0
	local log=$build/log/$name.log
	shift 2

	mkdir -p "$build/log"
	say "$text"
	# A process group of its own, so that an interrupt ends all of it.
	set -m
	(
		die_status=99
		"$@"
	) >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	# shellcheck disable=SC2064 # expands now
	trap "kill -TERM -- -$pid 2>/dev/null; die interrupted" INT TERM
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		if [ $((SECONDS - shown)) -ge 60 ]; then
			shown=$SECONDS
			printf '    %4d s  %s\n' $((SECONDS - begin)) \
				"$(tail -n 1 "$log" | tr -d '\r' | cut -c 1-68)"
		fi
	done
	trap - INT TERM

	wait "$pid" || status=$?
	if [ "$status" -eq 99 ]; then
		tail -n 1 "$log" >&2
		exit 1
	elif [ "$status" -ne 0 ]; then
		tail -n 25 "$log" >&2
		check_space 0.1
		die "$text: failed after $((SECONDS - begin)) s; the log is $log"
	fi
	printf '    done in %d s\n' $((SECONDS - begin))
}

# check_space GB: stop if the cache or this checkout have less space left.
check_space() {
	local dir free need=$1
	for dir in "$cache" "$build"; do
		mkdir -p "$dir" 2>/dev/null || die "cannot write to $dir"
		free=$(df --output=avail -k "$dir" | tail -n 1)
		[ "$free" -ge "$(awk "BEGIN { print int($need * 1048576) }")" ] ||
			die "the disk is full: $dir needs $need GB of free space"
	done
}

# One run at a time: trees, build directories and tools in the cache are shared.
# The lock is held by this script and by what it starts.
lock_cache() {
	[ -z "${KCMP_CACHE_LOCKED:-}" ] || return 0
	mkdir -p "$cache" 2>/dev/null || die "cannot write to $cache: set XDG_CACHE_HOME"
	exec 9>"$cache/lock"
	if ! flock -n 9; then
		say "waiting for another run that uses $cache"
		flock 9
	fi
	export KCMP_CACHE_LOCKED=1
}
