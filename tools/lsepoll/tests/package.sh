#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# package.sh: build the Debian package, install it in a fresh root, and use it there. Prints TAP.
# Needs root, cargo-deb and debootstrap. The suite and the mirror are those of this machine.

directory=$(dirname "$0")
echo "TAP version 13"
if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null || ! cargo deb --version >/dev/null 2>&1; then
	echo "1..0 # SKIP needs root, debootstrap and cargo-deb"
	exit 4
fi
echo "1..5"
count=0 failed=0
root=$(mktemp -d)
trap 'umount "$root/proc" 2>/dev/null; rm -rf --one-file-system "$root"' EXIT

# check NAME COMMAND...
check() {
	count=$((count + 1))
	name=$1
	shift
	if "$@" >"$root.log" 2>&1; then
		echo "ok $count $name"
	else
		failed=1
		sed 's/^/# /' "$root.log"
		echo "not ok $count $name"
	fi
	rm -f "$root.log"
}

build() {
	package=$("$directory/../package.sh") && [ -f "$package" ]
}

install() {
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	# shellcheck disable=SC2016 # the variables are apt's
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $suite" | head -n 1)
	debootstrap --variant=minbase --include=bash-completion,man-db "$suite" "$root" "$mirror" &&
		cp "$package" "$root/lsepoll.deb" && chroot "$root" dpkg -i /lsepoll.deb
}

completes() {
	# shellcheck disable=SC2016 # expanded there
	chroot "$root" bash -c '
		. /usr/share/bash-completion/bash_completion
		_completion_loader lsepoll
		COMP_WORDS=(lsepoll --st) COMP_CWORD=1 COMP_LINE="lsepoll --st" COMP_POINT=12
		_lsepoll lsepoll --st lsepoll
		[ "${COMPREPLY[*]}" = "--stale --state" ]'
}

demo() {
	mount --bind /proc "$root/proc" && chroot "$root" lsepoll --demo
}

check "the package is built" build
check "it installs in a fresh root" install
check "the demo is right" demo
check "the manual page is found" chroot "$root" man -w lsepoll
check "bash completes options" completes
exit $failed
