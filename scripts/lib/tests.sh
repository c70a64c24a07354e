# SPDX-License-Identifier: GPL-2.0
# Runs tests in guests and gathers the results. Guests are given as ARCH:KIND; those of the
# kind "kunit" run the KUnit tests, see kunit.sh.

# The seed of the tests; random without SEED.
seed=${SEED:-$((RANDOM << 15 | RANDOM))}
# NAME=FILE of all results, and a prefix for the next NAME.
gathered=()
label=

# tests_of ARCH KIND: print all tests. STEPS is the length of the model-based ones.
tests_of() {
	echo kcmp tfd cases race=20000 {model,cursor}="${STEPS:-20000}" fuzz=200000 replay=50000 faults lsepoll demo example
	[ "$1" != x86_64 ] || echo cases32
	[ "$2" = base ] || echo wakeup
}

# prepare_guests ARCH:KIND...: install and build all that these guests need, except the kernels.
prepare_guests() {
	local guest arch archs others
	mapfile -t archs < <(printf '%s\n' "${@%:*}" | sort -u)
	mapfile -t others < <(printf '%s\n' "$@" | sed '/:kunit$/d')
	for guest in "${others[@]}"; do
		kernel_image "${guest#*:}" "${guest%:*}" >/dev/null
	done
	set_up "${archs[@]}"
	update_trees
	for arch in $(printf '%s\n' "${others[@]%:*}" | sort -u); do
		build_programs "$arch"
	done
	for guest in "${others[@]}"; do
		fetch_root "${guest%:*}" "${guest#*:}"
	done
	mkdir -p "$results"
}

# test_in_guest NAME ARCH:KIND PART...: build the kernel, and run these parts of guest/tests.sh,
# or "all", in a guest. Does not fail if a test does: the results contain the failures. With
# $beside, only waits until one of two such guests has ended: see wait_for_guests().
beside=
test_in_guest() {
	local arch=${2%:*} kind=${2#*:} tap=$results/$1.tap
	[ "${3:-}" != all ] || set -- "$1" "$2" $(tests_of "$arch" "$kind") "${@:4}"

	gathered+=("$label$arch $kind=$tap")
	if [ "$kind" = kunit ]; then
		run_kunit "$arch" "$tap"
		return
	fi
	build_kernel "$arch" "$kind"
	say "testing in the $arch guest ($kind): ${*:3}"
	if [ -n "$beside" ]; then
		run_guest "$@" &
		wait_for_guests 1
	else
		run_guest "$@"
	fi
}

# run_guest NAME ARCH:KIND PART...: run these parts in a guest.
run_guest() {
	local begin=$SECONDS status errors=$results/$1.errors console=$results/$1.console
	trap interrupted INT TERM
	apart in_guest "$arch" "$kind" "${GUEST_SECONDS:-1800}" "$console" /mnt/tests.sh \
		"$(implementation_of "$kind")" "$seed" implementation "${@:3}" >"$tap" 2>"$errors"
	if [ "$kind" = noepoll ] && grep -q ' with status 255: ' "$errors"; then
		# virtme-ng finds its ports by udevd, which needs epoll: output is on the console.
		cp "$console" "$tap"
	elif [ "$status" -ne 0 ]; then
		cat "$errors" >&2
		printf '# begin guest\n1..1\nnot ok 1 %s\n# end guest 1\n# end of all tests\n' "$(tail -n 1 "$errors")" >>"$tap"
	fi
	took $((SECONDS - begin)) "testing in the $arch guest ($kind)"
	printf '    %sdone in %d s\n' "${beside:+$arch guest ($kind): }" $((SECONDS - begin))
}

# wait_for_guests N: wait until at most N guests are running.
wait_for_guests() {
	while [ "$(jobs -rp | wc -l)" -gt "$1" ]; do
		sleep 0.2
	done
}

# report_tests [OPTION]: print all results (see tap.py), and fail if a test did.
report_tests() {
	say "the seed was $seed"
	"$lib/tap.py" "$@" "${gathered[@]}"
}
