# SPDX-License-Identifier: GPL-2.0
#
# See README.md. A target runs the script of its name in scripts/; kunit runs test.sh.

ARCH ?= x86_64
KIND ?= rust

# "make help-all" explains these.
export LINUX STEPS SEED TESTS MAX

# The guests of "make test". The unpatched kernel (base) shows that the tests test the
# ABI, and not this implementation.
GUESTS := um:kunit x86_64:rust x86_64:c x86_64:base arm64:rust

.PHONY: help
help:
	@echo 'KCMP_EPOLL_TFD of kcmp(2), exact and fast: patch series for Linux'
	@echo
	@echo '  make run           build a kernel with the series, boot it in a guest, and'
	@echo '                     see which files an epoll instance really watches'
	@echo '  make test          all tests, in x86_64 and arm64 guests'
	@echo '  make check         checkpatch, clippy, sparse, spelling and other checks'
	@echo '  make series        write the series as mails to build/series/'
	@echo '  make shell         a shell in a guest with the series'
	@echo
	@echo '  make tree          make the kernel trees to work in, and print their path'
	@echo '  make save          write the commits in these trees back to series/'
	@echo
	@echo '  make kunit         the KUnit tests, on um, x86_64 and arm64'
	@echo '  make test-debug    the long tests: KASAN, KCSAN, races, faults, CRIU'
	@echo '  make test-bugs     insert bugs, and check that the tests find them'
	@echo '  make bisect-check  build, boot and test each commit'
	@echo '  make bench         count the instructions of each call'
	@echo
	@echo '  make clean         remove build/; make distclean: the cache, too'
	@echo '  make help-all      all targets and variables'
	@echo
	@echo 'Each target first installs what it needs. The cache is in XDG_CACHE_HOME or'
	@echo '~/.cache, and takes about 10 GB.'

.PHONY: help-all
help-all: help
	@echo
	@echo '  make setup         only install missing packages, and fetch the base kernel'
	@echo
	@echo '  LINUX=path         use this kernel tree instead of fetching one'
	@echo '  ARCH=arm64         for setup, run, shell and bench (default: x86_64)'
	@echo '  KIND=...           for shell: one of configs/kinds (default: rust)'
	@echo '  GUESTS=...         for test: one or more of ARCH:KIND, KIND being base, kcmp,'
	@echo '                     epoll, c, rust, another in configs/kinds, or kunit (default:'
	@echo '                     $(GUESTS))'
	@echo '  TESTS=...          for test: see scripts/guest/tests.sh (default: all)'
	@echo '  STEPS=N            for test, test-debug: the steps of the model-based tests'
	@echo '  SEED=N             for all tests: the seed that a run printed, to repeat it'
	@echo '  PARTS=...          for test-debug: one or more of suite, churn, close, race,'
	@echo '                     fuzz, replay, faults, criu, lsepoll, others, kunit'
	@echo '                     (default: all)'
	@echo '  BUGS=...           for test-bugs: see tests/bugs/ (default: all)'
	@echo '  COMMITS=...        for bisect-check: commits, counted from 1 (default: all)'
	@echo '  MAX=N              for bench: the largest number of entries (default: 1000000)'

.PHONY: setup run shell test kunit test-debug test-bugs bisect-check bench check series tree save
setup run bench:
	@scripts/$@.sh $(ARCH)

shell:
	@scripts/$@.sh $(ARCH) $(KIND)

test:
	@scripts/$@.sh $(GUESTS)

test-debug:
	@scripts/$@.sh $(PARTS)

test-bugs:
	@scripts/$@.sh $(BUGS)

bisect-check:
	@scripts/$@.sh $(COMMITS)

check series tree save:
	@scripts/$@.sh

kunit:
	@scripts/test.sh um:kunit x86_64:kunit arm64:kunit

.PHONY: clean distclean
clean:
	rm -rf build tools/target

distclean: clean
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/kcmp-epoll-tfd"
