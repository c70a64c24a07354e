# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
#
# Packages: of Debian, from the machine's own suites, or fetched from a newer one
# without changing the machine's configuration; of PyPI. Sourced, not run.

# Suites that are searched for what the machine's own do not have.
readonly newer_suites="trixie-backports sid"

# require_debian PACKAGE...: stop if this is no Debian that these come from.
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

# Print the version that the machine's own suites have, nothing if none.
candidate() {
	apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([0-9][^+~-]*\).*/\1/p'
}

apt_install() {
	as_root apt-get -o APT::Update::Error-Mode=any update ||
		die "no network: the lists of Debian's packages cannot be fetched"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# install_packages PACKAGE...: say which, and install them.
install_packages() {
	require_debian "$@"
	step apt "installing Debian packages: $*" apt_install "$@"
}

# Print the address of the mirror that this machine uses.
mirror() {
	local codename site
	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# shellcheck disable=SC2016 # the variables are apt's
	site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $codename" | head -n 1)
	if [ -z "$site" ]; then
		as_root apt-get update >&2
		# shellcheck disable=SC2016
		site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $codename" | head -n 1)
	fi
	[ -n "$site" ] || die "apt knows no mirror of Debian $codename: see sources.list(5)"
	printf '%s\n' "$site"
}

machine_apt() {
	"$@" 2>/dev/null
}

# newer_apt COMMAND...: an apt command that sees the newer suites, and only them.
newer_apt() {
	local command=$1
	shift
	"$command" -c "$cache/apt/apt.conf" "$@"
}

# The lists and the cache of the machine stay as they are, which its own hooks may clear.
update_newer() {
	local dir=$cache/apt suite site
	site=$(mirror)
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	for suite in $newer_suites; do
		printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
			"$site" "$suite"
	done >"$dir/sources.list"
	cat >"$dir/apt.conf" <<-END
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::State::lists "$dir/lists";
		Dir::Cache "$dir/cache";
		APT::Update::Error-Mode "any";
		Acquire::Languages "none";
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
	END
	newer_apt apt-get update
}

# download_deb PACKAGE VERSION DIR: fetch into DIR the newest version that matches
# the regular expression, from the machine's suites or from newer ones. Fails if
# there is none.
download_deb() {
	local package=$1 pattern=$2 dir=$3 apt version

	for apt in machine_apt newer_apt; do
		[ $apt = machine_apt ] || update_newer ||
			die "no network: Debian's package $package cannot be fetched"
		version=$($apt apt-cache madison "$package" | cut -d '|' -f 2 | tr -d ' ' |
			grep -E "$pattern" | head -n 1) || continue
		(cd "$dir" && $apt apt-get -o APT::Sandbox::User=root download "$package=$version") ||
			die "no network: Debian's package $package cannot be fetched"
		return
	done
	return 1
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
