#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# in-guest.sh KIND STEPS SEED: run all tests, in the guest, from the directory of
# this script, and print TAP. First of them: is it the implementation that KIND
# names (base, c, rust) which answers? STEPS is the length of the model-based test.

cd "$(dirname "$0")" || exit 1
here=$PWD
kind=$1 steps=$2 seed=$3

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
	grep -qw kcmp_epoll_target /proc/kallsyms || found="$found, but without kcmp_epoll_target()"
	echo "TAP version 13"
	echo "1..1"
	echo "# Linux $(uname -r) $(uname -m): the lookup is that of '$found'"
	if [ "$found" = "$kind" ]; then
		echo "ok 1 the lookup is that of '$kind'"
	else
		echo "not ok 1 the lookup is that of '$kind'"
		return 1
	fi
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

# The same stream of operations in each guest: tap.py compares what came out.
replay() {
	"$here/kcmp_epoll_replay" --record 50000 --seed "$seed" /tmp/stream &&
		"$here/kcmp_epoll_replay" --replay /tmp/stream
}

# run NAME COMMAND...
run() {
	name=$1
	shift
	echo "# begin $name"
	"$@" 2>&1
	echo "# end $name $?"
}

# kcmp_test writes a file where it runs.
cd /tmp || exit 1
run implementation implementation
run kcmp_test "$here/kcmp_test"
run kcmp_epoll_tfd_test "$here/kcmp_epoll_tfd_test"
run kcmp_epoll_model_test "$here/kcmp_epoll_model_test" --steps "$steps" --seed "$seed"
run kcmp_epoll_fuzz_test "$here/kcmp_epoll_fuzz_test" --calls 200000 --seed "$seed"
run kcmp_epoll_replay replay
# The lookup in C gives false equals. That it does so here shows that the test bites.
if [ "$kind" = rust ]; then expect=none; else expect=some; fi
run kcmp_epoll_race_test "$here/kcmp_epoll_race_test" --calls 200000 --expect $expect --seed "$seed"
run kcmp_epoll_faults_test "$here/kcmp_epoll_faults_test"
run kcmp_epoll_where one "each file is found where it is" "$here/kcmp_epoll_where" --story
run kcmp_example one "the example of the documentation" "$here/kcmp_example"
echo "# end of all tests"
