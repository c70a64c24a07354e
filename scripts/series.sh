#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# series.sh: write each series to a folder in build/series/ as mails, the way b4 sends
# them, and their recipients into the file recipients beside. Nothing is sent.
#
# The cover letter of a series begins with a head as the commits have one: the subject,
# which may have a prefix ("[PATCH RFC] ..."), the version of the series, the change-id
# that all versions have in common, and lines with others to send it to ("Cc: ").

# shellcheck source=scripts/lib/all.sh
. "$(dirname "$0")/lib/all.sh"

b4_python=$cache/b4-python

# letter NAME: print a line of the head of this series' cover letter.
letter() {
	head_line "$top/series/$series/cover-letter" "$1" | grep . ||
		die "series/$series/cover-letter has no line '$1: ...'"
}

# The base of the first series: a commit, where it is one that others can know.
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
	local name
	# shellcheck disable=SC2016 # the variables are b4's
	printf '%s\n' '${cover}' '' '---' '${shortlog}' '' '${diffstat}' '' '---' "$(base)"
	for name in "${all_series[@]}"; do
		[ "$name" != "$series" ] || break
		(series=$name && echo "prerequisite-change-id: $(letter Change-Id):v$(letter Version)")
	done
	# shellcheck disable=SC2016
	printf '%s\n' 'change-id: ${change_id}' '' '-- ' '${signature}'
}

no_figures() {
	die "results of the benchmark are missing: run 'make bench' and 'make test-debug PARTS=criu'"
}

# b4 reads what it wants to know about a branch from git's configuration, which the
# environment can give: nothing has to be written. It asks for a mail server even where
# it does not send.
write_mails() {
	local subject version change_id body patch first n=0
	subject=$(letter Subject)
	version=$(letter Version)
	change_id=$(letter Change-Id)
	body=$(message_of "$top/series/$series/cover-letter") || no_figures
	for patch in "$top/series/$series"/*.patch; do
		message_of "$patch" >/dev/null || no_figures
	done
	first=$(series_commits "$series" | head -n 1)

	setting() {
		export "GIT_CONFIG_KEY_$n=$1" "GIT_CONFIG_VALUE_$n=$2" GIT_CONFIG_COUNT=$((++n))
	}
	setting user.name "$(author name)"
	setting user.email "$(author email)"
	setting sendemail.smtpserver localhost
	setting b4.prep-cover-strategy branch-description
	setting b4.prep-cover-template "$mails.template"
	setting "branch.$series.description" "$subject"$'\n\n'"$body"
	setting "branch.$series.b4-tracking" "{ \"series\": { \"revision\": $version,
		\"change-id\": \"$change_id\", \"base-branch\": \"$first~\" } }"

	rm -rf "$mails"
	mkdir -p "${mails%/*}"
	write_template >"$mails.template"
	cd "$trees/$series"
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null "$b4_python/bin/b4" \
		--no-interactive send --no-sign --no-trailer-to-cc --output-dir "$mails"
	rm "$mails.template"
}

# People in To, lists in Cc, each with the reason why; then those that the cover letter names.
write_recipients() {
	cd "$trees/$series"
	{
		find "$mails" -name '*.eml' ! -name '0000-*' -print0 | sort -z |
			xargs -0 scripts/get_maintainer.pl --nogit --nogit-fallback --nogit-chief-penguins |
			sed -E 's/.* \(([a-z]+ )?list[:)].*/Cc: &/; t; s/^/To: /'
		head_line "$top/series/$series/cover-letter" Cc | sed 's/.*/Cc: & (cover letter)/'
	} >"$mails/recipients"
}

lock_cache
set_up x86_64
install_python "$b4_python" b4==0.16.0
make_series_trees
for series in "${all_series[@]}"; do
	mails=$build/series/$series
	step "series-$series" "writing $series as mails" write_mails
	step "series-$series-recipients" "asking get_maintainer.pl for the recipients" write_recipients
	say "$series is in ${mails#"$top"/}: $(find "$mails" -name '*.eml' | wc -l) mails, version $(letter Version)"
done
say "the base: $(base | sed 's/^[^:]*: //')"
