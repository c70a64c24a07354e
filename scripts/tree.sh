# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# Where the kernel trees are: the base, and the base with the series applied.
# Sourced after lib.sh, not run; trees.sh makes them.

base_version=7.3

# LINUX names the user's own tree; without it the base is Debian's.
if [ -n "${LINUX:-}" ]; then
	[ -d "$LINUX" ] || die "LINUX=$LINUX is no directory: it has to be a kernel tree"
	LINUX=$(cd "$LINUX" && pwd)
	trees=$cache/trees/$(basename "$LINUX")-$(printf %s "$LINUX" | sha256sum | cut -c 1-12)
else
	trees=$cache/trees/debian-$base_version
fi
base_tree=$trees/base
series_branch=kcmp-epoll-tfd
# bisect-check.sh puts one commit of the series after the other on a tree of its own.
series_tree=$trees/${KCMP_TREE:-series}

# The commits of the series, the first one first.
series_commits() {
	git -C "$base_tree" rev-list --reverse "HEAD..$series_branch"
}

# series_files [OPTION...] [-- PATTERN...]: the files of the kernel that the series
# adds or changes.
# shellcheck disable=SC2120 # which scripts pass
series_files() {
	git -C "$base_tree" diff --name-only "HEAD..$series_branch" "$@"
}

# our_findings FILE: print the findings in what a compiler printed that are about a file
# of the series. Fails if there are some.
our_findings() {
	local files
	# shellcheck disable=SC2119 # all files
	files=$(series_files | sed 's/\./[.]/g' | paste -sd '|')
	! {
		awk -v RS= -v files="$files" '/(^|\n)(warning|error)/ && $0 ~ files' "$1"
		grep -E "^(\.\./)?($files):[0-9:]+ (warning|error)" "$1" || true
	} | grep .
}

# tree_of KIND: the tree that a kind of kernel is built from.
#
#   base    unpatched
#   c       the series, with the lookup in C
#   rust    the series, with the lookup in Rust
#   debug   as rust, with KASAN, lockdep and the like
#   kcsan   as rust, with a detector of data races
#   faults  as rust, with fault injection
#   criu, criu-base
#           as rust and base, with what CRIU needs
#   norust  as c, without Rust
#   noepoll, nokcmp
#           as c, without what there is to look up, and without the call
tree_of() {
	case $1 in
	base | criu-base) echo "$base_tree" ;;
	c | rust | debug | kcsan | faults | criu | norust | noepoll | nokcmp) echo "$series_tree" ;;
	*) die "unknown kind of kernel '$1': base, c, rust, debug, kcsan, faults, criu, criu-base, norust, noepoll or nokcmp" ;;
	esac
}

# The fragments in configs/ that a kind and an architecture are made of.
fragments_of() {
	local name names=(common "$2")
	case $1 in
	base | c) ;;
	criu-base) names+=(criu) ;;
	rust | no*) names+=("$1") ;;
	*) names+=(rust "$1") ;;
	esac
	for name in "${names[@]}"; do
		echo "$top/configs/$name.config"
	done
}

# What guests have as their root: that of this machine, read-only, unless it cannot be.
guest_root() {
	case $2 in
	criu*) echo "$cache/root-$1-criu" ;;
	*) [ "$1" = "$(uname -m)" ] && echo / || echo "$cache/root-$1" ;;
	esac
}

# The image to boot of a kind and an architecture.
kernel_image() {
	local out
	out=$(tree_of "$1")/build-$2-$1
	case $2 in
	x86_64) echo "$out/arch/x86/boot/bzImage" ;;
	arm64) echo "$out/arch/arm64/boot/Image" ;;
	*) die "unknown architecture '$2': ARCH is x86_64 or arm64" ;;
	esac
}
