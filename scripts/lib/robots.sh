# SPDX-License-Identifier: GPL-2.0
# Compiles the C files that the series change as the build robots do: for other architectures, and
# in other configurations, with W=1. Compares the sizes of structures with the base's.

# Directory, architecture, compiler, options on top of $robot_options, and the object that they leave
# out.
robots='
build-x86_64-robot         x86_64    gcc
build-x86_64-robot-compat  x86_64    gcc   IA32_EMULATION=y
build-x86_64-robot-lockdep x86_64    gcc   DEBUG_KERNEL=y,PROVE_LOCKING=y
build-x86_64-robot-nonet   x86_64    gcc   NET=n
build-x86_64-robot-noepoll x86_64    gcc   EXPERT=y,EPOLL=n       fs/eventpoll.o
build-x86_64-robot-nokcmp  x86_64    gcc   CHECKPOINT_RESTORE=n   kernel/kcmp.o
build-i386-robot           i386      clang
build-arm-robot            arm       clang MMU=y,ARCH_MULTI_V7=y
build-riscv-robot          riscv     clang MMU=y
build-powerpc-robot        powerpc   clang
build-s390-robot           s390      clang
build-loongarch-robot      loongarch clang
'
# CHECKPOINT_RESTORE selects KCMP.
robot_options=SMP=y,PROC_FS=y,SYSFS=y,EPOLL=y,CHECKPOINT_RESTORE=y,NET=y

# as_robot TREE DIR: compile the objects of a row of $robots. Make says nothing about those that are
# up to date, so there are none.
as_robot() {
	local tree=$1 out=$2 kind=robot dir=$1/$2 arch compiler options without objects make
	read -r _ arch compiler options without < <(grep "^$out " <<<"$robots")
	mapfile -t objects < <(c_objects | grep -vxF "${without:-none}")
	make=(kernel_make "$tree" "$arch" "$out" -s KCFLAGS=-g HOSTCC="ccache $clang")
	[ "$compiler" = clang ] || make+=(LLVM= CC="ccache $compiler" HOSTCC="ccache $compiler")
	mkdir -p "$dir"
	(cd "$dir" && rm -f "${objects[@]}")
	tr , '\n' <<<"$robot_options${options:+,$options}" | sed 's/^/CONFIG_/' >"$dir/all.config.new"
	if ! cmp -s "$dir"/all.config{.new,}; then
		"${make[@]}" KCONFIG_ALLCONFIG="$dir/all.config.new" allnoconfig
		mv "$dir"/all.config{.new,}
	fi
	"${make[@]}" W=1 "${objects[@]}"
	check_config
}

check_robots() {
	local robot all found=0
	mapfile -t all < <(awk 'NF { print $1 }' <<<"$robots")
	rm -rf "$build/robots"
	mkdir -p "$build/robots"
	for robot in "${all[@]}"; do
		[ "$(jobs -pr | wc -l)" -lt "$(nproc)" ] || wait -n || true
		{ as_robot "$last_tree" "$robot"; touch "$build/robots/$robot.passed"; } >"$build/robots/$robot" 2>&1 &
	done
	wait
	for robot in "${all[@]}"; do
		if [ ! -e "$build/robots/$robot.passed" ]; then
			cat "$build/robots/$robot"
		elif our_findings "$build/robots/$robot"; then
			continue
		fi
		echo "Found in $robot"
		found=1
	done
	return $found
}

# at_most_grown ARCH STRUCT BYTES: fail if the structure has grown by more bytes.
at_most_grown() {
	local tree sizes=()
	for tree in "$base_tree" "$last_tree"; do
		sizes+=("$(pahole --sizes "$tree/build-$1-robot/fs/eventpoll.o" | awk -v name="$2" '$1 == name { print $2 }')")
	done
	echo "$1: struct $2 has ${sizes[1]} bytes, and ${sizes[0]} in the base"
	[ "${sizes[1]}" -le $((sizes[0] + $3)) ]
}

# Needs what check_robots() has compiled.
check_struct_sizes() {
	as_robot "$base_tree" build-x86_64-robot
	as_robot "$base_tree" build-i386-robot
	at_most_grown x86_64 eventpoll -8
	at_most_grown i386 eventpoll -4
	at_most_grown x86_64 epitem 0
	at_most_grown i386 epitem 0
}
