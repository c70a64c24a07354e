#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# test.sh ARCH:KIND...: build these kernels, run all tests in a guest on each, and
# print the results. STEPS is the length of the model-based test, SEED that of all
# random choices: without it, a new one.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"

results=$build/results
seed=${SEED:-$((RANDOM << 15 | RANDOM))}

# test_in_guest ARCH KIND: never fails, for the other guests run all the same. What
# went wrong is a line of the results.
test_in_guest() {
	local arch=$1 kind=$2 tap=$results/$1-$2.tap begin=$SECONDS message
	say "testing in the $arch guest ($kind)"
	rm -f "$tap"
	if ! message=$("$scripts/guest.sh" "$arch" "$kind" "${GUEST_SECONDS:-900}" "$results/$arch-$kind.console" \
		/mnt/in-guest.sh "$kind" "${STEPS:-20000}" "$seed" 2>&1 >"$tap"); then
		printf '%s\n' "$message" >&2
		printf '# begin guest\n1..1\nnot ok 1 %s\n# end guest 1\n' "$(tail -n 1 <<<"$message")" >>"$tap"
	fi
	printf '    done in %d s\n' $((SECONDS - begin))
}

lock_cache
archs=() gathered=()
for item; do
	arch=${item%:*}
	[[ " ${archs[*]} " == *" $arch "* ]] || archs+=("$arch")
done

"$scripts/setup.sh" "${archs[@]}"
"$scripts/trees.sh" series
for arch in "${archs[@]}"; do
	"$scripts/root.sh" "$arch"
	"$scripts/programs.sh" "$arch"
done
mkdir -p "$results"
for item; do
	"$scripts/kernel.sh" "${item%:*}" "${item#*:}"
	test_in_guest "${item%:*}" "${item#*:}"
	gathered+=("${item/:/ }=$results/${item/:/-}.tap")
done
say "the seed was $seed"
"$scripts/tap.py" "${gathered[@]}"
