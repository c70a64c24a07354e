#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# tests.sh IMPLEMENTATION SEED PART...: run tests, in the guest, from the directory of
# this script, and print TAP. A PART is the name of a test, or NAME=LENGTH: see the
# end of this script. IMPLEMENTATION is the expected lookup: base, kcmp, epoll, c,
# rust or none. After the part "if-there", programs that do not exist are left out.

here=$(cd "$(dirname "$0")" && pwd)
expected=$1 seed=$2 if_there=
shift 2

# Tell the series by the kernel release, and the lookup by the functions in kallsyms.
lookup() {
	if [ "$(zcat /proc/config.gz | grep -cx 'CONFIG_\(KCMP\|EPOLL\)=y')" -lt 2 ]; then
		echo none
	elif ! grep -qw get_epoll_tfile_raw_ptr /proc/kallsyms; then
		echo rust
	else
		case $(uname -r) in
		*-base) grep -w get_file_raw_ptr /proc/kallsyms >/dev/null && echo base ;;
		*-1-kcmp) echo kcmp ;;
		*-2-eventpoll) echo epoll ;;
		*-3-criu | *-4-rust) echo c ;;
		esac
	fi
}

implementation() {
	found=$(lookup)
	echo "Linux $(uname -r) $(uname -m): the lookup is that of '$found'"
	[ "$found" = "$expected" ]
}

# kmemleak only reports objects that are at least five seconds old.
kmemleak() {
	leaks=/sys/kernel/debug/kmemleak
	[ -e $leaks ] || mount -t debugfs debugfs /sys/kernel/debug || return 1
	sleep 6
	echo scan >$leaks && echo scan >$leaks || return 1
	cat $leaks
	! grep -q . $leaks
}

# The same stream of operations in each guest: tap.py compares the results.
replay() {
	"$here/kcmp_epoll_replay" --record "$1" --seed "$seed" /tmp/stream &&
		"$here/kcmp_epoll_replay" --replay /tmp/stream
}

# fails_in CASE...: run the selftest, which must fail in these cases, and in no other.
fails_in() {
	"$here/kcmp_epoll_tfd_test" | tee /tmp/tfd
	[ "$(sed -n 's/^not ok [0-9]* //p' /tmp/tfd | sort)" = "$(printf '%s\n' "$@" | sort)" ]
}

# The unpatched kernel must report false positives of both types.
lost_race() {
	"$here/kcmp_race_test" | tee /tmp/race
	grep -q '^not ok .*race\.KCMP_FILE' /tmp/race && grep -q '^not ok .*race\.KCMP_EPOLL_TFD' /tmp/race
}

# Without CONFIG_INET, the kcmp stressor silently skips KCMP_EPOLL_TFD.
stress_kcmp() {
	stress-ng --kcmp 2 --verify --timeout "$1" || return
	strace -f -e trace=kcmp stress-ng --kcmp 1 --kcmp-ops 20 2>&1 | grep -m 1 'KCMP_EPOLL_TFD.* = [012]$'
}

# zdtm NAME: dump and restore one of CRIU's own tests, which prints PASS if nothing has changed.
zdtm() {
	mkdir -p "/tmp/$1/images" && cd "/tmp/$1" || return
	# virtme-ng leaves ports open, which CRIU cannot dump.
	"$here/zdtm/$1" --pidfile=pid --outfile=out 3>&- 4>&- 5>&- 6>&- || return
	pid=$(cat pid)
	criu dump -v1 -D images -t "$pid" && criu restore -v1 -D images -d || return
	kill -TERM "$pid"
	while [ -e "/proc/$pid" ]; do
		sleep 0.1
	done
	tail out
	grep -q ' PASS$' out
}

# one TEXT COMMAND...: run a command that does not print TAP, as one test.
one() {
	printf 'TAP version 13\n1..1\n'
	"${@:2}" >/tmp/output 2>&1
	status=$?
	sed 's/^/# /' /tmp/output
	[ $status -eq 0 ] || printf 'not '
	echo "ok 1 $1"
	return $status
}

# run NAME COMMAND...: run a command that prints TAP, marking begin and end for tap.py.
run() {
	echo "# begin $1"
	"${@:2}" 2>&1
	echo "# end $1 $?"
}

# program NAME ARGUMENT...: run a test program that is in the directory of this script.
program() {
	[ -x "$here/$1" ] || [ -z "$if_there" ] || return 0
	run "$1" "$here/$1" "${@:2}"
}

cd /tmp || exit 1 # kcmp_test writes a file here
for part; do
	length=${part#*=}
	case $part in
	if-there) if_there=yes ;;
	implementation) run implementation one "the lookup is that of '$expected'" implementation ;;
	kcmp) program kcmp_test ;;
	tfd)
		if [ -n "$if_there" ] && [ ! -x "$here/kcmp_epoll_tfd_test" ]; then
			continue
		fi
		if [ "$expected" = base ]; then
			run kcmp_epoll_tfd_test one "the races fail, and nothing else" \
				fails_in race.kcmp_{epoll_tfd,file}.no_false_positive
		else
			program kcmp_epoll_tfd_test
		fi
		;;
	cases) program kcmp_epoll_cases_test ;;
	cases32) program kcmp_epoll_cases_test_32 ;;
	race=*)
		export KCMP_RACE_CALLS="$length" KCMP_RACE_SECONDS=900
		if [ "$expected" = base ]; then
			run kcmp_race_test one "both bugs of the base are found" lost_race
		else
			program kcmp_race_test
		fi
		;;
	model=*) program kcmp_epoll_model_test "$length" "$seed" ;;
	cursor=*) program kcmp_epoll_cursor_test --steps "$length" --seed "$seed" ;;
	fuzz=*) program kcmp_epoll_fuzz_test --calls "$length" --seed "$seed" ;;
	replay=*) run kcmp_epoll_replay replay "$length" ;;
	churn=*) program kcmp_epoll_churn_test --seconds "$length" --seed "$seed" ;;
	close=*) program kcmp_epoll_close_test --rounds "$length" --seed "$seed" ;;
	faults) program kcmp_epoll_faults_test ;;
	lsepoll=*) run lsepoll one "lsepoll looks at $length entries" "$here/lsepoll_test" --bench-entries "$length" ;;
	lsepoll) LSEPOLL_TEST_SEED=$((seed | 1)) program lsepoll_test ;;
	demo) run lsepoll one "lsepoll --demo finds each file" "$here/lsepoll" --demo ;;
	example)
		[[ -n $if_there && ! -x $here/kcmp_example ]] ||
			run kcmp_example one "the example of the documentation" "$here/kcmp_example"
		;;
	wakeup) program epoll_wakeup_test ;;
	criu) run criu one "CRIU has what it needs" sh -c "criu check && criu --version" ;; # else its tests are skipped
	criu=* | same-fd=*) # ENTRIES, or ENTRIESxRUNS
		[[ $part == criu=* ]] && option='' || option=--same-fd
		[[ $length == *x* ]] && runs=${length#*x} || runs=1
		for ((i = 0; i < runs; i++)); do
			program kcmp_epoll_criu_test $option --entries "${length%x*}"
		done
		;;
	stress-ng=*)
		many=$(stress-ng --epollmany 1 --dry-run >/dev/null 2>&1 && echo --epollmany 2)
		run stress-ng-epoll one "stress-ng --epoll $many" stress-ng --epoll 2 $many --verify --timeout "$length"
		run stress-ng-kcmp one "stress-ng --kcmp, with KCMP_EPOLL_TFD" stress_kcmp "$length"
		;;
	zdtm)
		for test in static/epoll static/epoll01 static/scm05 transition/epoll; do
			run "zdtm-$test" one "CRIU's $test" zdtm $test
		done
		;;
	kmemleak) run kmemleak one "nothing leaked" kmemleak ;;
	*) run "$part" one "a test of this name" false ;;
	esac
done
echo "# end of all tests"
