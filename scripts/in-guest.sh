#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# in-guest.sh IMPLEMENTATION SEED PART...: run tests, in the guest, from the directory of
# this script, and print TAP. A PART is the name of a test, or NAME=LENGTH.
# IMPLEMENTATION is the lookup that has to answer: base, c, rust or none.

cd "$(dirname "$0")" || exit 1
here=$PWD
expected=$1 seed=$2
shift 2

# The lookup in C is a function of eventpoll.c, the one in Rust is an option.
which_implementation() {
	if zcat /proc/config.gz | grep -qx CONFIG_KCMP_EPOLL_TFD_RUST=y; then
		echo rust
	elif ! grep -qw get_epoll_tfile_raw_ptr /proc/kallsyms; then
		echo none
	elif zcat /proc/config.gz | grep -q CONFIG_KCMP_EPOLL_TFD_RUST; then
		echo c
	else
		echo base
	fi
}

implementation() {
	found=$(which_implementation)
	[ "$found" = none ] || grep -qw kcmp_epoll_target /proc/kallsyms ||
		found="$found, but without kcmp_epoll_target()"
	echo "Linux $(uname -r) $(uname -m): the lookup is that of '$found'"
	[ "$found" = "$expected" ]
}

# What was not freed, as the kernel's own detector of leaks sees it. It reports an
# object once it is some seconds old.
kmemleak() {
	leaks=/sys/kernel/debug/kmemleak
	[ -e $leaks ] || mount -t debugfs debugfs /sys/kernel/debug || return 1
	sleep 6
	echo scan >$leaks && echo scan >$leaks || return 1
	cat $leaks
	! grep -q . $leaks
}

# The same stream of operations in each guest: tap.py compares what came out.
replay() {
	"$here/kcmp_epoll_replay" --record "$1" --seed "$seed" /tmp/stream &&
		"$here/kcmp_epoll_replay" --replay /tmp/stream
}

# one TEXT COMMAND...: a command that does not print TAP, as one test.
one() {
	text=$1
	shift
	echo "TAP version 13"
	echo "1..1"
	"$@" >/tmp/output 2>&1
	status=$?
	sed 's/^/# /' /tmp/output
	if [ $status -eq 0 ]; then
		echo "ok 1 $text"
	else
		echo "not ok 1 $text"
	fi
	return $status
}

# run NAME COMMAND...
run() {
	name=$1
	shift
	echo "# begin $name"
	"$@" 2>&1
	echo "# end $name $?"
}

# program NAME ARGUMENT...
program() {
	name=$1
	shift
	run "$name" "$here/$name" "$@"
}

# kcmp_test writes a file where it runs.
cd /tmp || exit 1
for part; do
	length=${part#*=}
	case $part in
	implementation) run implementation one "the lookup is that of '$expected'" implementation ;;
	kcmp) program kcmp_test ;;
	tfd) program kcmp_epoll_tfd_test ;;
	model=*) program kcmp_epoll_model_test --steps "$length" --seed "$seed" ;;
	fuzz=*) program kcmp_epoll_fuzz_test --calls "$length" --seed "$seed" ;;
	replay=*) run kcmp_epoll_replay replay "$length" ;;
	race=*)
		# The lookup in C gives false equals. That it does so shows that the test bites.
		if [ "$expected" = rust ]; then expect=none; else expect=some; fi
		program kcmp_epoll_race_test --calls "$length" --seconds 900 --expect $expect --seed "$seed"
		;;
	churn=*) program kcmp_epoll_churn_test --seconds "$length" --seed "$seed" ;;
	criu) run criu one "CRIU has what it needs" criu check ;; # else its tests are skipped
	criu=*) program kcmp_epoll_criu_test --targets "$length" ;;
	faults) program kcmp_epoll_faults_test ;;
	where) run kcmp_epoll_where one "each file is found where it is" "$here/kcmp_epoll_where" --story ;;
	example) run kcmp_example one "the example of the documentation" "$here/kcmp_example" ;;
	kmemleak) run kmemleak one "nothing leaked" kmemleak ;;
	*) run "$part" one "a test of this name" false ;;
	esac
done
echo "# end of all tests"
