#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# check.sh: check the style of all code and text in this repository, and lint it, with
# the kernel's own tools where there are any.

. "$(dirname "$0")/lib/common.sh"
. "$lib/checks.sh"
. "$lib/robots.sh"

lock_cache
set_up x86_64
install_packages shellcheck sparse pahole mandoc groff
if ! { rustfmt --version && clippy-driver --version && rustdoc --version; } >/dev/null 2>&1; then
	[ "$(type -P rustc)" = /usr/bin/rustc ] ||
		die "rustfmt or clippy is missing: run 'rustup component add rustfmt clippy'"
	install_packages rustfmt clippy-driver:rust-clippy
fi
# The first two are for spdxcheck.py, the last three for Sphinx.
install_python "$cache/check-python" ply==3.11 GitPython==3.2.1 codespell==2.4.3 \
	sphinx==9.0.4 alabaster==1.0.0 pyyaml==6.0.3
PATH=$cache/check-python/bin:$PATH
update_trees

step check-patches "checkpatch.pl --strict on each commit" check_patches
step check-licenses "spdxcheck.py" check_licenses
step check-spelling "codespell" check_spelling
step check-shell "shellcheck" check_shell
step check-save "make tree and make save lose nothing" "$top/tests/save.sh" "$base_tree"
step check-rustfmt "rustfmt" check_rustfmt
step check-tools "clippy on the tools" check_tools
step check-selftests "clippy and more warnings on the selftests" check_selftests

build_kernel x86_64 rust
step check-clippy "CLIPPY=1 W=1 on the kernel code" check_clippy
step check-rustdoc "rustdoc" check_rustdoc
step check-refused "code that the compiler has to reject" check_refused
for kind in base norust; do
	build_kernel x86_64 $kind prepare
done
step check-sparse "sparse" check_sparse
step check-robots "W=1 on the C code, as the build robots do" check_robots
step check-struct-sizes "the sizes of struct eventpoll and epitem" check_struct_sizes
step check-kernel-doc "kernel-doc" check_kernel_doc
step check-page "Sphinx" check_page
step check-man-page "mandoc and groff on the man page" check_man_page
