#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# others.sh stress-ng SECONDS | zdtm: run tests that others wrote for epoll and kcmp, in
# the guest, and print TAP: stress-ng's stressors, or CRIU's own tests, dumped and restored.

here=$(cd "$(dirname "$0")" && pwd)
number=0 failed=0

# test TEXT COMMAND...
test_one() {
	text=$1
	shift
	number=$((number + 1))
	if "$@" >/tmp/output 2>&1; then
		echo "ok $number $text"
	else
		echo "not ok $number $text"
		failed=1
	fi
	sed 's/^/# /' /tmp/output
}

# Without INET, the kcmp stressor skips KCMP_EPOLL_TFD and says nothing.
asks_for_entries() {
	strace -f -e trace=kcmp stress-ng --kcmp 1 --kcmp-ops 20 2>&1 | grep -m 1 'KCMP_EPOLL_TFD.* = [012]'
}

# dump_and_restore PROGRAM: it prints PASS to its output if all is as before.
dump_and_restore() {
	dir=/tmp/zdtm/$1
	mkdir -p "$dir/images" && cd "$dir" || return
	"$here/zdtm/$1" --pidfile=pid --outfile=out || return
	pid=$(cat pid)
	criu dump -v1 -D images -t "$pid" && criu restore -v1 -D images -d || return
	kill -TERM "$pid" || return
	while [ -e "/proc/$pid" ]; do
		sleep 0.1
	done
	cat out
	grep -qx PASS out
}

echo "TAP version 13"
case $1 in
stress-ng)
	! stress-ng --epollmany 1 --dry-run >/dev/null 2>&1 || many=--epollmany
	for stressor in --epoll $many --kcmp; do
		test_one "stress-ng $stressor" stress-ng $stressor 2 --verify --timeout "$2"
	done
	test_one "stress-ng --kcmp calls KCMP_EPOLL_TFD" asks_for_entries
	;;
zdtm)
	for program in static/epoll static/epoll01 static/scm05 transition/epoll; do
		test_one "CRIU's $program" dump_and_restore $program
	done
	;;
esac
echo "1..$number"
exit $failed
