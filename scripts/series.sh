#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# series.sh: write each series to a folder in build/series/ as mails, the way b4 sends
# them, and the recipients to the file "recipients" in that folder. Nothing is sent.
#
# A cover letter begins with a header, as a patch does: Subject, which may have a prefix
# ("[RFC] ..."); Version; Change-Id, the same for all versions; Cc, more recipients.

. "$(dirname "$0")/lib/common.sh"

# letter NAME [SERIES]: print a field of the header of a cover letter.
letter() {
	local file=series/${2:-$series}/cover-letter
	head_line "$top/$file" "$1" | grep . || die "$file has no line '$1: ...'"
}

# message FILE: print the message of the cover letter, or of a patch.
message() {
	message_of "$top/series/$series/$1" ||
		die "results of the benchmark are missing: run 'make bench' and 'make test-debug PARTS=criu'"
}

# Print the base of the first series: a commit if LINUX is a clean git tree, else a version.
base() {
	local commit
	commit=$([ -n "${LINUX:-}" ] && git -C "$LINUX" diff --quiet HEAD && git -C "$LINUX" rev-parse HEAD) 2>/dev/null ||
		commit="Linux $(make -s -C "$base_tree" kernelversion), $(git -C "$base_tree" log -1 --format=%s)"
	echo "base-commit: $commit"
}

# Print the template for the cover letter, which b4 fills in.
template() {
	local name
	# shellcheck disable=SC2016 # the variables are b4's
	printf '%s\n' '${cover}' '' '---' '${shortlog}' '' '${diffstat}' '' '---' "$(base)"
	for name in "${all_series[@]}"; do
		[ "$name" != "$series" ] || break
		echo "prerequisite-change-id: $(letter Change-Id "$name"):v$(letter Version "$name")"
	done
	# shellcheck disable=SC2016
	printf '%s\n' 'change-id: ${change_id}' '' '-- ' '${signature}'
}

# b4 reads what it needs to know about a branch from git's configuration: pass that in the
# environment. It wants a mail server even if it does not send.
write_mails() {
	local patch n=0
	setting() {
		export "GIT_CONFIG_KEY_$n=$1" "GIT_CONFIG_VALUE_$n=$2" GIT_CONFIG_COUNT=$((++n))
	}
	setting user.name "$(author name)"
	setting user.email "$(author email)"
	setting sendemail.smtpserver localhost
	setting b4.prep-cover-strategy branch-description
	setting b4.prep-cover-template "$build/cover-template"
	setting "branch.$series.description" "$(letter Subject)"$'\n\n'"$(message cover-letter)"
	setting "branch.$series.b4-tracking" "{ \"series\": { \"revision\": $(letter Version),
		\"change-id\": \"$(letter Change-Id)\", \"base-branch\": \"$previous\" } }"
	for patch in "$top/series/$series"/*.patch; do
		message "${patch##*/}" >/dev/null
	done

	rm -rf "$mails"
	mkdir -p "${mails%/*}"
	template >"$build/cover-template"
	cd "$trees/$series"
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null "$cache/b4-python/bin/b4" \
		--no-interactive send --no-sign --no-trailer-to-cc --output-dir "$mails"
}

# People in To and lists in Cc, each with the reason, then those that the cover letter names.
write_recipients() {
	cd "$trees/$series"
	{
		find "$mails" -name '*.eml' ! -name '0000-*' -print0 | sort -z |
			xargs -0 scripts/get_maintainer.pl --nogit --nogit-fallback --nogit-chief-penguins --nokeywords |
			sed -E 's/.* \(([a-z]+ )?list[:)].*/Cc: &/; t; s/^/To: /'
		head_line "$top/series/$series/cover-letter" Cc | sed 's/.*/Cc: & (cover letter)/'
	} >"$mails/recipients"
}

lock_cache
set_up x86_64
install_python "$cache/b4-python" b4==0.16.0
make_series_trees
previous=$(git -C "$base_tree" rev-parse HEAD)
for series in "${all_series[@]}"; do
	mails=$build/series/$series
	step "series-$series" "writing $series as mails" write_mails
	step "series-$series-recipients" "asking get_maintainer.pl for the recipients" write_recipients
	say "$series is in ${mails#"$top"/}: $(find "$mails" -name '*.eml' | wc -l) mails, for $(base | cut -d ' ' -f 2-)"
	previous=$series
done
