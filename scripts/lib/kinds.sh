# SPDX-License-Identifier: GPL-2.0
# The kernel trees, and the kinds of kernels that are built from them.

base_version=7.3
# Each is a folder in series/, and a branch and a tree, on top of the one before it.
kernel_series=(1-kcmp 2-eventpoll 3-criu 4-rust)
all_series=("${kernel_series[@]}" man-pages)

# LINUX names the user's own tree; without it the base is Debian's.
trees=$cache/linux/debian-$base_version
if [ -n "${LINUX:-}" ]; then
	[ -d "$LINUX" ] || die "LINUX=$LINUX is not a directory"
	LINUX=$(cd "$LINUX" && pwd)
	trees=$cache/linux/$(basename "$LINUX")-$(printf %s "$LINUX" | sha256sum | cut -c 1-12)
fi
base_tree=$trees/base
last_tree=$trees/${kernel_series[-1]}
scratch=$trees/scratch
man_page=$cache/man-pages
only_tree= # if set, all kinds are built from this tree

# tree_of KIND: print the tree that a kind of kernel is built from.
tree_of() {
	local tree
	tree=$(awk -v kind="$1" '$1 == kind { print $2 }' "$top/configs/kinds")
	[ -n "$tree" ] || die "unknown kind of kernel '$1': see configs/kinds"
	echo "${only_tree:-$trees/$tree}"
}

# kernel_image KIND ARCH: print the path of the image to boot.
kernel_image() {
	local out
	out=$(tree_of "$1")/build-$2-$1
	case $2 in
	x86_64) echo "$out/arch/x86/boot/bzImage" ;;
	arm64) echo "$out/arch/arm64/boot/Image" ;;
	*) die "unknown architecture '$2': ARCH is x86_64 or arm64" ;;
	esac
}

# series_of TREE: print the series that the tree is of, or "base".
series_of() {
	local name
	for name in base "${kernel_series[@]}"; do
		[ "$1" != "$trees/$name" ] || break
		[ -n "$only_tree" ] || continue
		! git -C "$1" merge-base --is-ancestor HEAD "$(git -C "$trees/$name" rev-parse HEAD)" || break
	done
	echo "$name"
}

# implementation_of KIND: print the lookup that the kernel must have, as guest/tests.sh names it.
implementation_of() {
	case $1-$(series_of "$(tree_of "$1")") in
	noepoll-* | nokcmp-*) echo none ;;
	*-base) echo base ;;
	*-1-kcmp) echo kcmp ;;
	*-2-eventpoll) echo epoll ;;
	norust-* | rust-off-* | *-3-criu) echo c ;;
	*) echo rust ;;
	esac
}

# Print the commits of the kernel's series, oldest first.
series_commits() {
	git -C "$last_tree" rev-list --reverse "$(base_commit)..HEAD"
}

# series_files [OPTION...] [-- PATTERN...]: print the files that these series add or change.
series_files() {
	git -C "$last_tree" diff --name-only "$(base_commit)" "$@"
}

# our_findings FILE: print a compiler's findings about files of the series; fail if there are any.
our_findings() {
	local files
	files=$(series_files -- | sed 's/\./[.]/g' | paste -sd '|')
	! {
		awk -v RS= -v files="$files" '/(^|\n)(warning|error)/ && $0 ~ files' "$1"
		grep -E "^(\.\./)?($files):[0-9:]+ (warning|error)" "$1" || true
	} | grep .
}
