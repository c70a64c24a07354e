# SPDX-License-Identifier: GPL-2.0
#
# See README.md. Each target is a script of the same name in scripts/.

ARCH ?= x86_64
KIND ?= rust

# LINUX: the user's kernel tree. STEPS, SEED, TESTS: see the tests. MAX: see the
# benchmark.
export LINUX STEPS SEED TESTS MAX

# The guests of "make test". The unpatched kernel shows that the tests test the ABI,
# and not this implementation.
GUESTS := um:kunit x86_64:rust x86_64:c x86_64:base arm64:rust

.PHONY: help
help:
	@echo 'KCMP_EPOLL_TFD of kcmp(2), exact and fast: three patch series for Linux'
	@echo
	@echo '  make run           build a kernel with the series, boot it in a guest, and'
	@echo '                     see which files an epoll instance really watches'
	@echo '  make test          all tests, in x86_64 and arm64 guests'
	@echo '  make check         checkpatch, clippy, sparse, spelling and the like'
	@echo '  make series        write the series as mails to build/series/'
	@echo '  make shell         a shell in a guest with the series'
	@echo
	@echo '  make kunit         the tests inside the kernel, on um, x86_64 and arm64'
	@echo '  make test-debug    the long tests: KASAN, KCSAN, races, faults, CRIU'
	@echo '  make test-bugs     insert bugs, and check that the tests find them'
	@echo '  make bisect-check  build, boot and test each commit'
	@echo '  make bench         count the instructions of each call'
	@echo
	@echo '  make clean         remove build/; make distclean: the cache, too'
	@echo '  make help-all      all targets and variables'
	@echo
	@echo 'Everything is set up on the way. It takes about 10 GB in XDG_CACHE_HOME or'
	@echo '~/.cache, and the first time about half an hour.'

.PHONY: help-all
help-all: help
	@echo
	@echo '  make setup         only install what is missing, and fetch the base kernel'
	@echo
	@echo '  LINUX=path         use this kernel tree instead of fetching one'
	@echo '  ARCH=arm64         for setup, run, shell and bench (default: x86_64)'
	@echo '  KIND=...           for shell: the kind of kernel (default: rust)'
	@echo '  GUESTS=...         for test: one or more of ARCH:KIND, KIND being base, kcmp,'
	@echo '                     c, rust or kunit'
	@echo '                     ($(GUESTS))'
	@echo '  TESTS=...          for test: see scripts/guest/tests.sh (default: all)'
	@echo '  STEPS=N SEED=N     for test: length of the model-based test; seed of all tests'
	@echo '  PARTS=...          for test-debug: one or more of suite, churn, race, fuzz,'
	@echo '                     replay, faults, criu, others, kunit (default: all)'
	@echo '  BUGS=...           for test-bugs: see kselftest/bugs/ (default: all)'
	@echo '  COMMITS=...        for bisect-check: numbers of commits, from 1 (default: all)'
	@echo '  MAX=N              for bench: the largest number of entries (default: 1000000)'

.PHONY: setup run shell test kunit test-debug test-bugs bisect-check bench check series
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

check series:
	@scripts/$@.sh

kunit:
	@scripts/test.sh um:kunit x86_64:kunit arm64:kunit

.PHONY: clean distclean
clean:
	rm -rf build tools/target

distclean: clean
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/kcmp-epoll-tfd"
