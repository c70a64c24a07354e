#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mails.sh: write the series to build/series/ as mails, the way b4 sends them, and who
# is to get them into the file recipients beside. Nothing is sent.
#
# series/cover-letter begins with a head as the commits have one: the subject, which
# may have a prefix ("[PATCH RFC] ..."), the version of the series, and the change-id
# that all versions have in common.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/packages.sh
. "$scripts/packages.sh"

b4_python=$cache/b4-python
mails=$build/series
letter=$top/series/cover-letter
template=$build/cover-template

# A line of the head of the cover letter.
head_line() {
	sed -n "1,/^\$/ s/^$1: //p" "$letter" | grep . || die "$letter has no line '$1: ...'"
}

# What the patches apply to: a commit, where it is one that others can know.
base() {
	local version commit
	version="Linux $(make -s -C "$base_tree" kernelversion)"
	if [ -z "${LINUX:-}" ]; then
		echo "base: $version, Debian's $(git -C "$base_tree" log -1 --format=%s)"
	elif commit=$(git -C "$LINUX" rev-parse HEAD 2>/dev/null) && git -C "$LINUX" diff --quiet HEAD; then
		echo "base-commit: $commit"
	else
		echo "base: $version, with changes"
	fi
}

# What follows the cover letter. b4 fills it in.
write_template() {
	# shellcheck disable=SC2016 # the variables are b4's
	printf '%s\n' '${cover}' '' '---' '${shortlog}' '' '${diffstat}' '' '---' \
		"$(base)" 'change-id: ${change_id}' '' '-- ' '${signature}' >"$template"
}

# What b4 wants to know about a branch, it reads from git's configuration, and that
# can be given by the environment: nothing has to be written. It asks for a mail
# server even where it does not send.
write_mails() {
	local subject version change_id body base n=0
	subject=$(head_line Subject)
	version=$(head_line Version)
	change_id=$(head_line Change-Id)
	body=$(sed '1,/^$/ d' "$letter" | "$scripts/figures.py" -) ||
		die "the benchmark has holes: run 'make bench' without MAX"
	base=$(git -C "$base_tree" rev-parse HEAD)

	setting() {
		export "GIT_CONFIG_KEY_$n=$1" "GIT_CONFIG_VALUE_$n=$2" GIT_CONFIG_COUNT=$((++n))
	}
	setting user.name "$(git log -1 --format=%an "$series_branch")"
	setting user.email "$(git log -1 --format=%ae "$series_branch")"
	setting sendemail.smtpserver localhost
	setting b4.prep-cover-strategy branch-description
	setting b4.prep-cover-template "$template"
	setting "branch.$series_branch.description" "$subject"$'\n\n'"$body"
	setting "branch.$series_branch.b4-tracking" "{ \"series\": { \"revision\": $version,
		\"change-id\": \"$change_id\", \"base-branch\": \"$base\" } }"

	write_template
	rm -rf "$mails"
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null "$b4_python/bin/b4" \
		--no-interactive send --no-sign --no-trailer-to-cc --output-dir "$mails"
}

# People in To, lists in Cc, each with the reason why.
write_recipients() {
	find "$mails" -name '*.eml' ! -name '0000-*' -print0 | sort -z |
		xargs -0 scripts/get_maintainer.pl --nogit --nogit-fallback --nogit-chief-penguins |
		sed -E 's/.* \(([a-z]+ )?list[:)].*/Cc: &/; t; s/^/To: /' >"$mails/recipients"
}

lock_cache
install_python "$b4_python" b4==0.16.0
cd "$series_tree"
step mails "writing the series as mails" write_mails
step recipients "asking get_maintainer.pl for the recipients" write_recipients
base=$(base)
say "the series is in ${mails#"$top"/}: $(find "$mails" -name '*.eml' | wc -l) mails, for ${base#*: }"
