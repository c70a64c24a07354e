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

# Print the base of the first series: a commit if LINUX is a clean git tree, else a version.
base() {
	local commit
	commit=$([ -n "${LINUX:-}" ] && git -C "$LINUX" diff --quiet HEAD && git -C "$LINUX" rev-parse HEAD) 2>/dev/null ||
		commit="Linux $(make -s -C "$base_tree" kernelversion), $(in_base log -1 --format=%s)"
	[ "$series" != man-pages ] || commit=$(in_base log -1 --format=%s "$man_base")
	echo "base-commit: $commit"
}

# Print the template for the cover letter, which b4 fills in.
template() {
	local name
	# shellcheck disable=SC2016 # the variables are b4's
	printf '%s\n' '${cover}' '' '---' '${shortlog}' '' '${diffstat}' '' '---' "$(base)"
	for name in "${kernel_series[@]}"; do
		[[ $series != man-pages && $name != "$series" ]] || break
		echo "prerequisite-change-id: $(letter Change-Id "$name"):v$(letter Version "$name")"
	done
	# shellcheck disable=SC2016
	printf '%s\n' 'change-id: ${change_id}' '' '-- ' '${signature}'
}

# fill NAME: print a file of the series with the figures filled in.
fill() {
	"$lib/results.py" fill <"$top/series/$series/$1" ||
		die "results of the benchmark are missing: run 'make bench' and 'make test-debug PARTS=criu'"
}

# b4 reads what it needs to know about a branch from git's configuration: pass that in the
# environment. It wants a mail server even if it does not send.
write_mails() {
	local patch n=0
	setting() {
		export "GIT_CONFIG_KEY_$n=$1" "GIT_CONFIG_VALUE_$n=$2" GIT_CONFIG_COUNT=$((++n))
	}
	setting user.name "${by_name:-series}"
	setting user.email "${by_email:-series@localhost}"
	setting sendemail.smtpserver localhost
	setting b4.prep-cover-strategy branch-description
	setting b4.prep-cover-template "$build/cover-template"
	setting "branch.mail/$series.description" "$(letter Subject)"$'\n\n'"$(fill cover-letter | sed '1,/^$/ d')"
	setting "branch.mail/$series.b4-tracking" "{ \"series\": { \"revision\": $(letter Version),
		\"change-id\": \"$(letter Change-Id)\", \"base-branch\": \"refs/mail-base/$series\" } }"
	for patch in "$top/series/$series"/*.patch; do
		fill "${patch##*/}" >/dev/null
	done

	rm -rf "$mails"
	mkdir -p "${mails%/*}"
	template >"$build/cover-template"
	make_scratch -B "mail/$series" "refs/mail/$series"
	cd "$scratch"
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null "$cache/b4-python/bin/b4" \
		--no-interactive send --no-sign --no-trailer-to-cc --output-dir "$mails"
}

# People in To and lists in Cc, each with the reason, then those that the cover letter names.
write_recipients() {
	cd "$last_tree"
	{
		[ "$series" = man-pages ] || find "$mails" -name '*.eml' ! -name '0000-*' -print0 | sort -z |
			xargs -0 scripts/get_maintainer.pl --nogit --nogit-fallback --nogit-chief-penguins --nokeywords |
			sed -E 's/.* \(([a-z]+ )?list[:)].*/Cc: &/; t; s/^/To: /'
		head_line "$top/series/$series/cover-letter" Cc | sed 's/.*/Cc: & (cover letter)/'
	} >"$mails/recipients"
}

lock_cache
set_up x86_64
install_python "$cache/b4-python" b4==0.16.0
update_trees
[ ${#unsaved[@]} -eq 0 ] || die "the trees of ${unsaved[*]} have changes that series/ lacks: run 'make save'"
# A Signed-off-by is the statement of the person who runs this.
if by_name=$(git -C "$top" -c user.useConfigOnly=true var GIT_AUTHOR_IDENT 2>/dev/null); then
	by_email=${by_name##*<} by_email=${by_email%%>*} by_name=${by_name%% <*}
else
	by_name=
	say "the mails have no Signed-off-by: set git's user.name and user.email"
fi
fill="$lib/results.py fill" import_all "$top" mail
for series in "${all_series[@]}"; do
	mails=$build/series/$series
	step "series-$series" "writing $series as mails" write_mails
	step "series-$series-recipients" "asking get_maintainer.pl for the recipients" write_recipients
	say "$series is in ${mails#"$top"/}: $(find "$mails" -name '*.eml' | wc -l) mails, for $(base | cut -d ' ' -f 2-)"
done
