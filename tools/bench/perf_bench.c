// SPDX-License-Identifier: GPL-2.0
// "perf bench epoll" of a kernel tree without the rest of perf: quick to build, for any architecture.

#include <string.h>
#include <sys/time.h>

int bench_epoll_ctl(int argc, const char **argv);
int bench_epoll_wait(int argc, const char **argv);

/* From perf's builtin-bench.c and util/debug.c. */
struct timeval bench__start, bench__end, bench__runtime;
int verbose;

int eprintf(int level, int var, const char *fmt, ...)
{
	return 0;
}

int main(int argc, const char **argv)
{
	return (strcmp(argv[1], "ctl") ? bench_epoll_wait : bench_epoll_ctl)(argc - 1, argv + 1);
}
