# SPDX-License-Identifier: GPL-2.0
# Builds kernels, with the fragments of configs/ on top of allnoconfig.

# build_kernel ARCH KIND [TARGET...]: build a kernel image, or these make targets instead.
build_kernel() {
	local arch=$1 kind=$2 tree out=build-$1-$2
	tree=$(tree_of "$kind")
	shift 2
	[ $# -gt 0 ] || set -- "$(basename "$(kernel_image "$kind" "$arch")")"
	step "kernel-$arch-$kind" "building the $arch kernel ($kind)" make_kernel "$@"
}

make_kernel() {
	local fragments
	fragments=$(awk -v kind="$kind" '$1 == kind { $1 = $2 = ""; print }' "$top/configs/kinds")
	mkdir -p "$tree/$out"
	cat $(printf "$top/configs/%s.config " common "$arch" $fragments) >"$tree/$out/all.config"
	# Kconfig does not say why Rust is not available; this target does.
	kernel_make "$tree" "$arch" "$out" rustavailable
	kernel_make "$tree" "$arch" "$out" KCONFIG_ALLCONFIG="$tree/$out/all.config" allnoconfig
	check_config
	kernel_make "$tree" "$arch" "$out" "$@"
}

# Fail if an option in .config differs from the last fragment that sets it.
check_config() {
	local want
	while read -r want; do
		case $want in
		CONFIG_*=n) ! grep -q "^${want%=n}=" "$tree/$out/.config" ;;
		CONFIG_*) grep -qxF "$want" "$tree/$out/.config" ;;
		esac || die "the $arch kernel ($kind) cannot have $want: check the dependencies of the option"
	done < <(tac "$tree/$out/all.config" | awk -F = '!seen[$1]++')
}
