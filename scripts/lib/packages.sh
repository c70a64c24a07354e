# SPDX-License-Identifier: GPL-2.0
# Packages from Debian and from PyPI. Those that go to the cache may come from newer suites,
# without a change to the machine's configuration.

machine_suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
# The suite of the guests' root file systems.
guest_suite=trixie

as_root() {
	[ "$(id -u)" -eq 0 ] || set -- sudo "$@"
	"$@"
}

apt_install() {
	as_root apt-get -o APT::Update::Error-Mode=any update ||
		die "cannot fetch the lists of Debian's packages: no network, or not root?"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# install_packages [COMMAND:]PACKAGE...: list and install the packages whose commands, or
# files, are missing. The default of COMMAND is the name of the package.
install_packages() {
	local item missing=()
	for item; do
		[ -e "${item%:*}" ] || command -v "${item%:*}" >/dev/null || missing+=("${item#*:}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	(. /etc/os-release && [ "$ID" = debian ] && [ "${VERSION_ID:-99}" -ge 12 ]) 2>/dev/null ||
		die "this is not Debian 12 or newer: install these yourself: ${missing[*]}"
	step apt "installing Debian packages: ${missing[*]}" apt_install "${missing[@]}"
}

# Print the address of the mirror that this machine uses.
mirror() {
	# shellcheck disable=SC2016 # the variables are apt's
	local ask=(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $machine_suite")
	[ -n "$("${ask[@]}")" ] || as_root apt-get update >&2
	"${ask[@]}" | sed 1q | grep . || die "apt has no mirror for Debian $machine_suite: see sources.list(5)"
}

# cache_apt COMMAND...: run an apt command with the lists in the cache.
cache_apt() {
	APT_CONFIG=$lib/apt.conf "$1" -o Dir::Etc::sourcelist="$cache/apt/sources.list" \
		-o Dir::State::lists="$cache/apt/lists" -o Dir::Cache="$cache/apt/cache" "${@:2}"
}

# download COMMAND PACKAGE PATTERN DIR: fetch to DIR, by "apt-get COMMAND", the newest
# version of a package whose line in "apt-cache madison" matches. Fails if there is none.
download() {
	local site version options='signed-by=/usr/share/keyrings/debian-archive-keyring.gpg'
	site=$(mirror) || exit
	mkdir -p "$cache"/apt/{lists/partial,cache/archives/partial}
	{
		printf "deb [$options] $site %s main\n" "$machine_suite" "$guest_suite" "$guest_suite-backports" sid
		echo "deb-src [$options] $site $guest_suite main"
	} | sort -u >"$cache/apt/sources.list"
	cache_apt apt-get update || die "cannot fetch Debian's package $2: no network?"
	version=$(cache_apt apt-cache madison "$2" | grep -E "$3" | cut -d '|' -f 2 | tr -d ' ' | sort -Vru | sed 1q)
	[ -n "$version" ] || return 1
	(cd "$4" && cache_apt apt-get $1 "$2=$version") || die "cannot fetch Debian's package $2: no network?"
}

fetch_python() {
	# A virtual environment cannot be moved into place: mark it when it is complete.
	rm -rf "$1"
	python3 -m venv "$1"
	"$1/bin/pip" install --disable-pip-version-check "${@:2}" ||
		die "pip cannot install ${*:2}: no network? The log is in $build/log"
	echo "${*:2}" >"$1/complete"
}

# install_python DIR PACKAGE...: make a virtual environment with these packages.
install_python() {
	[ "$(cat "$1/complete" 2>/dev/null)" = "${*:2}" ] ||
		step "$(basename "$1")" "installing ${*:2} into the cache" fetch_python "$@"
}
