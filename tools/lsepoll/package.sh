#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# package.sh: build a Debian package of lsepoll, with man page and completions, and print its path.
# Needs cargo-deb. The maintainer is whoever builds it, as git or $DEBEMAIL says.

set -e
cd "$(dirname "$0")"
cargo build --release --locked --quiet
metadata=$(cargo metadata --format-version 1 --no-deps)
release=$(printf '%s' "$metadata" | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
mkdir -p "$release/package"
"$release/lsepoll" --man >"$release/package/lsepoll.1"
"$release/lsepoll" --completions bash >"$release/package/lsepoll"
"$release/lsepoll" --completions zsh >"$release/package/_lsepoll"
"$release/lsepoll" --completions fish >"$release/package/lsepoll.fish"
maintainer=${DEBEMAIL:-$(git config user.name || id -un) <$(git config user.email || echo "$(id -un)@$(hostname)")>}
cargo deb --no-build --locked --quiet --maintainer "$maintainer"
