# SPDX-License-Identifier: GPL-2.0
#
# KCMP_EPOLL_TFD in Rust: see README.md. What the targets do is in scripts/.

ARCH ?= x86_64

# LINUX: the user's own kernel tree; STEPS, SEED, TESTS: of the tests; MAX: of the
# benchmark.
export LINUX STEPS SEED TESTS MAX

# The guests of "make test". The unpatched kernel shows that the tests are about
# the ABI, and not about our habits; the lookup in C, that the option can be off.
GUESTS := um:kunit x86_64:rust x86_64:c x86_64:base arm64:rust

.PHONY: help
help:
	@echo 'KCMP_EPOLL_TFD in Rust: a patch series for Linux'
	@echo
	@echo '  make run       build a kernel with the series, boot it under virtme-ng, and let'
	@echo '                 a program in it find the files behind an epoll set'
	@echo '  make test      all tests, in x86_64 and arm64 guests'
	@echo '  make kunit     the tests inside the kernel, in um, x86_64 and arm64 kernels'
	@echo '  make test-debug'
	@echo '                 what is too long for that: debug kernels, races, fuzzing, faults'
	@echo '  make test-bugs put bugs into the code, and see that the tests find them'
	@echo '  make bisect-check'
	@echo '                 build, boot and test each commit of the series by itself'
	@echo '  make bench     count the instructions of calls, on three kernels side by side'
	@echo '  make check     formatting, lint, documentation and spelling of all that is here'
	@echo '  make shell     a shell in a guest with the series'
	@echo '  make series    write the series as mails to build/series/, and who is to get them'
	@echo '  make setup     only install what is missing, and fetch the base kernel'
	@echo '  make clean     remove build/'
	@echo '  make distclean remove the cache as well: kernels, tools, sources'
	@echo
	@echo '  ARCH=arm64     for run, bench and shell: another architecture'
	@echo '  LINUX=path     use this kernel tree instead of fetching one'
	@echo '  GUESTS=...     for test: one or more of ARCH:KIND, KIND being rust, c, base or kunit'
	@echo '                 (default: $(GUESTS))'
	@echo '  PARTS=...      for test-debug: one or more of suite, churn, race, fuzz, replay,'
	@echo '                 faults, criu, kunit (default: all of them)'
	@echo '  TESTS=...      for test: see scripts/in-guest.sh (default: all of them)'
	@echo '  COMMITS=...    for bisect-check: the numbers of some commits (default: all of them)'
	@echo '  BUGS=...       for test-bugs: see Documentation/bugs/ (default: all of them)'
	@echo '  STEPS=N SEED=N for test: length of the model-based test; seed of all tests'
	@echo '  MAX=N          for bench: the largest number of targets (default: 1000000)'
	@echo
	@echo 'Everything is set up on the way. It takes about 8 GB in the cache directory'
	@echo '(XDG_CACHE_HOME or ~/.cache), and the first time about half an hour.'

.PHONY: setup kernel run test kunit test-debug test-bugs bisect-check bench shell check series clean distclean
setup:
	@scripts/setup.sh $(ARCH)

kernel: setup
	@scripts/trees.sh series
	@scripts/root.sh $(ARCH) rust
	@scripts/programs.sh $(ARCH)
	@scripts/kernel.sh $(ARCH) rust

run: kernel
	@scripts/guest.sh $(ARCH) rust 120 build/results/run-$(ARCH).console \
		/mnt/kcmp_epoll_where --story

test:
	@scripts/test.sh $(GUESTS)

kunit:
	@scripts/test.sh um:kunit x86_64:kunit arm64:kunit

test-debug:
	@scripts/test-debug.sh $(PARTS)

test-bugs:
	@scripts/test-bugs.sh $(BUGS)

bisect-check:
	@scripts/bisect-check.sh $(COMMITS)

bench:
	@scripts/bench.sh $(ARCH)

shell: kernel
	@scripts/guest.sh $(ARCH) rust 0 build/results/shell-$(ARCH).console

check:
	@scripts/check.sh

series: setup
	@scripts/trees.sh series
	@scripts/mails.sh

clean:
	rm -rf build kselftest/rust/target kselftest/rust/Cargo.lock

distclean: clean
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/kcmp-epoll-tfd"
