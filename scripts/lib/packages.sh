# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
#
# Packages of Debian and of PyPI. What goes into the cache may come from suites newer
# than the machine's, without changing the machine's configuration.

# Of the root file systems of guests.
guest_suite=trixie

# require_debian PACKAGE...: fail on systems that do not have these packages.
require_debian() {
	local id version
	id=$(sed -n 's/^ID=//p' /etc/os-release 2>/dev/null) || id=unknown
	version=$(sed -n 's/^VERSION_ID="\?\([0-9]*\).*/\1/p' /etc/os-release 2>/dev/null) || version=
	if [ "$id" != debian ] || [ "${version:-99}" -lt 12 ]; then
		die "this is $id $version, not Debian 12 or newer: install by hand: $*"
	fi
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root to run: $*"
	fi
}

apt_install() {
	as_root apt-get -o APT::Update::Error-Mode=any update ||
		die "no network: the lists of Debian's packages cannot be fetched"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# install_packages PACKAGE...: name the packages and install them.
install_packages() {
	require_debian "$@"
	step apt "installing Debian packages: $*" apt_install "$@"
}

# install_for COMMAND:PACKAGE...: install the packages whose commands are missing. A
# package alone is installed in any case.
install_for() {
	local item missing=()
	for item; do
		[[ $item == *:* ]] && command -v "${item%:*}" >/dev/null || missing+=("${item#*:}")
	done
	[ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

machine_suite() {
	sed -n 's/^VERSION_CODENAME=//p' /etc/os-release
}

# Print the address of the mirror that this machine uses.
mirror() {
	local site try
	for try in 1 2; do
		# shellcheck disable=SC2016 # the variables are apt's
		site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' \
			"Codename: $(machine_suite)" | head -n 1)
		[ -z "$site" ] || break
		[ $try = 2 ] || as_root apt-get update >&2
	done
	[ -n "$site" ] || die "apt knows no mirror of Debian $(machine_suite): see sources.list(5)"
	printf '%s\n' "$site"
}

# cache_apt COMMAND...: an apt command that sees the machine's suite, that of the guests
# and newer ones, with lists of its own in the cache.
cache_apt() {
	local command=$1
	shift
	"$command" -c "$cache/apt/apt.conf" "$@"
}

# Some machines' hooks clear the lists after each update.
update_cache_apt() {
	local dir=$cache/apt suite site
	local entry='%s [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n'
	[ ! -e "$dir/updated" ] || [ -n "$(find "$dir/updated" -mmin +60)" ] || return 0
	site=$(mirror)
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	for suite in "$(machine_suite)" "$guest_suite" "$guest_suite-backports" sid; do
		# shellcheck disable=SC2059
		printf "$entry" deb "$site" "$suite"
	done | sort -u >"$dir/sources.list"
	# shellcheck disable=SC2059
	printf "$entry" deb-src "$site" "$guest_suite" >>"$dir/sources.list"
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
	cache_apt apt-get update && touch "$dir/updated"
}

# download COMMAND PACKAGE VERSION DIR: fetch into DIR the newest version of a package
# that matches the regular expression, by "apt-get COMMAND". Fails if there is none.
download() {
	local command=$1 package=$2 pattern=$3 dir=$4 version
	update_cache_apt || die "no network: Debian's package $package cannot be fetched"
	version=$(cache_apt apt-cache madison "$package" | cut -d '|' -f 2 | tr -d ' ' |
		grep -E "$pattern" | sort -Vr | head -n 1) || return 1
	# shellcheck disable=SC2086 # these are words
	(cd "$dir" && cache_apt apt-get $command "$package=$version") ||
		die "no network: Debian's package $package cannot be fetched"
}

fetch_python() {
	local dir=$1
	shift
	# A virtual environment cannot be moved into place: mark it when whole.
	rm -rf "$dir"
	python3 -m venv "$dir"
	"$dir/bin/pip" install --disable-pip-version-check "$@" ||
		die "$* cannot be installed by pip: no network? The log is in $build/log"
	touch "$dir/complete"
}

# install_python DIR PACKAGE...: make a virtual environment with these packages.
install_python() {
	[ -e "$1/complete" ] ||
		step "$(basename "$1")" "installing ${*:2} into the cache" fetch_python "$@"
}
