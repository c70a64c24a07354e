# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# Where the kernel trees are, and the kinds of kernels that are built from them.

base_version=7.3
# Each is a folder in series/, and a branch of the base tree on top of the one before.
all_series=(1-kcmp 2-eventpoll 3-rust)

# LINUX names the user's own tree; without it the base is Debian's.
if [ -n "${LINUX:-}" ]; then
	[ -d "$LINUX" ] || die "LINUX=$LINUX is no directory: it has to be a kernel tree"
	LINUX=$(cd "$LINUX" && pwd)
	trees=$cache/trees/$(basename "$LINUX")-$(printf %s "$LINUX" | sha256sum | cut -c 1-12)
else
	trees=$cache/trees/debian-$base_version
fi
base_tree=$trees/base
# With all series.
last_tree=$trees/${all_series[-1]}
# If set, the tree of all kinds: bisect-check.sh checks one commit after the other out in it.
only_tree=

# tree_of KIND: the tree that a kind of kernel is built from.
#
#   base    unpatched
#   kcmp    after 1-kcmp
#   c       after 2-eventpoll
#   rust    after 3-rust, with the lookup in Rust
#   debug   as rust, with KASAN, lockdep and the like, and with what CRIU needs
#   kcsan   as rust, with a detector of data races
#   faults  as rust, with fault injection
#   criu, criu-base
#           as rust and base, with what CRIU needs
#   norust  after 3-rust, without Rust
#   noepoll, nokcmp
#           after 3-rust, without epoll, and without kcmp(2)
tree_of() {
	local tree
	case $1 in
	base | criu-base) tree=$base_tree ;;
	kcmp) tree=$trees/1-kcmp ;;
	c) tree=$trees/2-eventpoll ;;
	rust | debug | kcsan | faults | criu | norust | noepoll | nokcmp) tree=$last_tree ;;
	*) die "unknown kind of kernel '$1': base, kcmp, c, rust, debug, kcsan, faults, criu, criu-base, norust, noepoll or nokcmp" ;;
	esac
	echo "${only_tree:-$tree}"
}

# The fragments in configs/ that a kind and an architecture are made of.
fragments_of() {
	local name names=(common "$2")
	case $1 in
	base | kcmp | c) ;;
	criu-base) names+=(criu) ;;
	rust | no*) names+=("$1") ;;
	debug) names+=(rust debug criu) ;;
	*) names+=(rust "$1") ;;
	esac
	for name in "${names[@]}"; do
		echo "$top/configs/$name.config"
	done
}

# series_of TREE: the series that the commit checked out in the tree belongs to, or "base".
series_of() {
	local name
	for name in "${all_series[@]}"; do
		! git -C "$1" merge-base --is-ancestor HEAD "refs/heads/$name" || break
	done
	[ "$(git -C "$1" rev-parse HEAD)" != "$(git -C "$base_tree" rev-parse HEAD)" ] || name=base
	echo "$name"
}

# implementation_of KIND: the lookup that has to answer in a kernel of this kind, as
# guest/tests.sh tells it. Not each commit of a series changes it.
implementation_of() {
	local tree
	tree=$(tree_of "$1")
	case $1 in
	noepoll | nokcmp) echo none ;;
	rust | debug | kcsan | faults | criu) echo rust ;;
	*)
		if grep -q get_file_raw_ptr "$tree/kernel/kcmp.c"; then
			echo base
		elif [ "$(series_of "$tree")" = 1-kcmp ]; then
			echo kcmp
		else
			echo c
		fi
		;;
	esac
}

# series_commits [SERIES]: the commits of one series, or of all, the first one first.
series_commits() {
	local name parent=HEAD
	for name in "${all_series[@]}"; do
		[ "${1:-$name}" != "$name" ] || git -C "$base_tree" rev-list --reverse "$parent..$name"
		parent=$name
	done
}

# series_files [OPTION...] [-- PATTERN...]: the files of the kernel that the series add or
# change.
# shellcheck disable=SC2120 # which scripts pass
series_files() {
	git -C "$base_tree" diff --name-only "HEAD..${all_series[-1]}" "$@"
}

# our_findings FILE: print the findings about files of the series in a compiler's output.
# Fails if there are any.
our_findings() {
	local files
	# shellcheck disable=SC2119 # all files
	files=$(series_files | sed 's/\./[.]/g' | paste -sd '|')
	! {
		awk -v RS= -v files="$files" '/(^|\n)(warning|error)/ && $0 ~ files' "$1"
		grep -E "^(\.\./)?($files):[0-9:]+ (warning|error)" "$1" || true
	} | grep .
}

# kernel_image KIND ARCH: the image to boot.
kernel_image() {
	local out
	out=$(tree_of "$1")/build-$2-$1
	case $2 in
	x86_64) echo "$out/arch/x86/boot/bzImage" ;;
	arm64) echo "$out/arch/arm64/boot/Image" ;;
	*) die "unknown architecture '$2': ARCH is x86_64 or arm64" ;;
	esac
}
