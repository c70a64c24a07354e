# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# Tests in guests: build what they need, run them, gather the results. Guests are
# given as ARCH:KIND; those of the kind "kunit" run the tests inside the kernel, see
# kunit.sh. SEED is that of all random choices: without it, a new one.
# Sourced after lib.sh and tree.sh, not run.

results=$build/results
seed=${SEED:-$((RANDOM << 15 | RANDOM))}
# What the results are of: NAME=FILE. The label is the first part of the name.
gathered=()
label=

# All tests, as in-guest.sh takes them. STEPS is the length of the model-based test.
all_tests="kcmp tfd model=${STEPS:-20000} fuzz=200000 replay=50000 race=200000 faults where example"

# prepare_guests ARCH:KIND...: build what runs in these guests.
prepare_guests() {
	local guest arch archs
	for guest; do
		case $guest in
		um:kunit | x86_64:kunit | arm64:kunit) ;;
		*:*) kernel_image "${guest#*:}" "${guest%:*}" >/dev/null ;;
		*) die "'$guest' is no guest: GUESTS are ARCH:KIND, such as x86_64:rust" ;;
		esac
	done
	mapfile -t archs < <(printf '%s\n' "${@%:*}" | sort -u)
	"$scripts/setup.sh" "${archs[@]}"
	"$scripts/trees.sh" series
	mapfile -t archs < <(printf '%s\n' "$@" | sed '/:kunit$/d; s/:.*//' | sort -u)
	for arch in "${archs[@]}"; do
		"$scripts/programs.sh" "$arch"
	done
	for guest; do
		[[ $guest == *:kunit ]] || "$scripts/root.sh" "${guest%:*}" "${guest#*:}"
	done
	mkdir -p "$results"
}

# Which lookup has to answer in a kernel of this kind, as in-guest.sh takes it. Without
# the option that the series adds, it cannot be told from that of the base.
implementation_of() {
	case $1 in
	noepoll | nokcmp) echo none ;;
	c | rust | debug | kcsan | faults | criu)
		if [ ! -e "$(tree_of "$1")/kernel/kcmp_epoll.rs" ]; then
			echo base
		elif [ "$1" = c ]; then
			echo c
		else
			echo rust
		fi
		;;
	*) echo base ;;
	esac
}

# test_in_guest NAME ARCH:KIND PART...: build the kernel, and run these parts of
# in-guest.sh in a guest, once it is clear which implementation answers. Never fails
# because of a test, for the other guests run all the same: what went wrong is a line of
# the results.
test_in_guest() {
	local name=$1 arch=${2%:*} kind=${2#*:} begin message
	local tap=$results/$name.tap
	shift 2

	if [ "$kind" = kunit ]; then
		"$scripts/kunit.sh" "$arch" "$tap"
		gathered+=("$label$arch $kind=$tap")
		return
	fi
	"$scripts/kernel.sh" "$arch" "$kind"
	say "testing in the $arch guest ($kind): $*"
	begin=$SECONDS
	rm -f "$tap"
	if message=$("$scripts/guest.sh" "$arch" "$kind" "${GUEST_SECONDS:-900}" "$results/$name.console" \
		/mnt/in-guest.sh "$(implementation_of "$kind")" "$seed" implementation "$@" 2>&1 >"$tap"); then
		:
	elif [ "$kind" = noepoll ] && [[ $message == *' with status 255: '* ]]; then
		# virtme-ng finds its outputs by udevd, which needs epoll: it prints to the console
		# instead, and has no status.
		cp "$results/$name.console" "$tap"
	else
		printf '%s\n' "$message" >&2
		printf '# begin guest\n1..1\nnot ok 1 %s\n# end guest 1\n' "$(tail -n 1 <<<"$message")" >>"$tap"
	fi
	printf '    done in %d s\n' $((SECONDS - begin))
	gathered+=("$label$arch $kind=$tap")
}

# report_tests [OPTION]: print all results (see tap.py), and fail if a test did.
report_tests() {
	say "the seed was $seed"
	"$scripts/tap.py" "$@" "${gathered[@]}"
}
