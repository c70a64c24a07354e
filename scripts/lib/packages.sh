# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Packages of Debian and of PyPI. Those that go into the cache may come from newer suites,
# without changing the machine's configuration.

# Of the root file systems of guests.
guest_suite=trixie

as_root() {
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || die "needs root to run: $*"
		set -- sudo "$@"
	fi
	"$@"
}

apt_install() {
	as_root apt-get -o APT::Update::Error-Mode=any update ||
		die "no network: the lists of Debian's packages cannot be fetched"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# install_packages COMMAND:PACKAGE...: name and install the packages whose commands, or
# files, are missing. Without a command, the package is missing.
install_packages() {
	local item missing=()
	for item; do
		[ -e "${item%:*}" ] || command -v "${item%:*}" >/dev/null || missing+=("${item#*:}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	(. /etc/os-release && [ "$ID" = debian ] && [ "${VERSION_ID:-99}" -ge 12 ]) 2>/dev/null ||
		die "this is not Debian 12 or newer: install by hand: ${missing[*]}"
	step apt "installing Debian packages: ${missing[*]}" apt_install "${missing[@]}"
}

machine_suite() {
	sed -n 's/^VERSION_CODENAME=//p' /etc/os-release
}

# Print the address of the mirror that this machine uses.
mirror() {
	# shellcheck disable=SC2016 # the variables are apt's
	local ask=(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $(machine_suite)")
	[ -n "$("${ask[@]}")" ] || as_root apt-get update >&2
	"${ask[@]}" | sed 1q | grep . || die "apt knows no mirror of Debian $(machine_suite): see sources.list(5)"
}

# Fetch lists of the machine's suite, that of the guests and newer ones into the cache.
# Some machines' hooks clear the lists after each update.
update_cache_apt() {
	local dir=$cache/apt options='signed-by=/usr/share/keyrings/debian-archive-keyring.gpg' site
	site=$(unset APT_CONFIG && mirror)
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	printf "deb [$options] $site %s main\n" \
		"$(machine_suite)" "$guest_suite" "$guest_suite-backports" sid | sort -u >"$dir/sources.list"
	echo "deb-src [$options] $site $guest_suite main" >>"$dir/sources.list"
	cat >"$dir/apt.conf" <<-END
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::State::lists "$dir/lists";
		Dir::Cache "$dir/cache";
		APT::Update::Error-Mode "any";
		APT::Sandbox::User "root";
		Acquire::Languages "none";
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
	END
	apt-get update
}

# download COMMAND PACKAGE PATTERN DIR: fetch into DIR, by "apt-get COMMAND", the newest
# version of a package whose line of "apt-cache madison" matches. Fails if there is none.
download() {
	local version
	local -x APT_CONFIG=$cache/apt/apt.conf
	update_cache_apt || die "no network: Debian's package $2 cannot be fetched"
	version=$(apt-cache madison "$2" | grep -E "$3" | cut -d '|' -f 2 | tr -d ' ' | sort -Vru | sed 1q)
	[ -n "$version" ] || return 1
	(cd "$4" && apt-get $1 "$2=$version") || die "no network: Debian's package $2 cannot be fetched"
}

fetch_python() {
	# A virtual environment cannot be moved into place: mark it when whole.
	rm -rf "$1"
	python3 -m venv "$1"
	"$1/bin/pip" install --disable-pip-version-check "${@:2}" ||
		die "${*:2} cannot be installed by pip: no network? The log is in $build/log"
	touch "$1/complete"
}

# install_python DIR PACKAGE...: make a virtual environment with these packages.
install_python() {
	[ -e "$1/complete" ] ||
		step "$(basename "$1")" "installing ${*:2} into the cache" fetch_python "$@"
}
