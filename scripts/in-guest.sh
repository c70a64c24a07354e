#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# in-guest.sh KIND [ARGUMENT...]: run all tests, in the guest, from the directory
# of this script, and print TAP. First of them: is it the implementation that KIND
# names (base, c, rust) which answers? The arguments go to the model-based test.

cd "$(dirname "$0")" || exit 1
here=$PWD
kind=$1
shift

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

story() {
	echo "TAP version 13"
	echo "1..1"
	"$here/kcmp_epoll_where" --story >/tmp/story
	status=$?
	sed 's/^/# /' /tmp/story
	if [ $status -eq 0 ]; then
		echo "ok 1 each file is found where it is"
	else
		echo "not ok 1 each file is found where it is"
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

# kcmp_test writes a file where it runs.
cd /tmp || exit 1
run implementation implementation
run kcmp_test "$here/kcmp_test"
run kcmp_epoll_tfd_test "$here/kcmp_epoll_tfd_test"
run kcmp_epoll_model_test "$here/kcmp_epoll_model_test" "$@"
run kcmp_epoll_where story
echo "# end of all tests"
