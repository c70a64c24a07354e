// SPDX-License-Identifier: GPL-2.0
/*
 * Test KCMP_FILE and KCMP_EPOLL_TFD for false positives while files are closed
 * and opened.
 *
 * One process, the churner, opens a file at fd X and closes it, then opens
 * another at fd Y, adds it to an epoll file, and closes it, over and over. The
 * second file tends to get the memory of the first: struct file is
 * SLAB_TYPESAFE_BY_RCU. Another process, the caller, keeps comparing X with Y,
 * or with the entry of Y.
 *
 * They are never the same file: one opened at X is never at Y and never added,
 * one opened at Y is never at X. kcmp() can report them equal only if it drops
 * its reference to X before it finds Y.
 *
 * in_parallel: each process has a CPU of its own.
 * interrupting: they share a CPU, and the churner is SCHED_FIFO and sleeps at
 * times. Its timer interrupts the caller anywhere in kcmp(), and the files
 * change before the caller goes on. This hits the race far more often, but
 * needs a preemptible kernel.
 *
 * The churner never sleeps with both X and Y open, so an interrupted caller can
 * only find both if it was interrupted after it found X and before it looked up
 * Y. The number of these calls shows whether the test could fail at all.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"

/*
 * Calls to make in each test case, and the time limit. Environment variables of
 * the same name override them.
 */
#define KCMP_RACE_CALLS		200000
#define KCMP_RACE_SECONDS	10

#define TIMEOUT			(24 * 60 * 60)	/* above KCMP_RACE_SECONDS */
#define SLEEP_MAX		500		/* us; lets the caller go on */
#define HITS_MIN		10		/* calls that find both X and Y */
#define EXIT			"--exit"	/* argument: exit at once */

/* The fds of the churner. New files pass through the lowest free fd. */
enum { X = 100, Y, EPOLL, PLAIN, SOCK_A, SOCK_B };

enum { EQUAL, LESS, GREATER, SRCH, BADF, INVAL, NOENT, ANSWERS };

static const struct {
	const char *name;
	int ret;
} answers[ANSWERS] = {
	[EQUAL]		= { "equal", 0 },
	[LESS]		= { "less", 1 },
	[GREATER]	= { "greater", 2 },
	[SRCH]		= { "ESRCH", -ESRCH },
	[BADF]		= { "EBADF", -EBADF },
	[INVAL]		= { "EINVAL", -EINVAL },
	[NOENT]		= { "ENOENT", -ENOENT },
};

struct race {
	int type;
	bool interrupting;
	unsigned int errors;		/* bitmask: each must be seen, no other may */
	unsigned long rounds;
	int cpus[2];
	/* Shared by the two processes. */
	struct {
		atomic_int pid1;	/* the process with X */
		atomic_bool stop;
		atomic_int unexpected;
		atomic_ulong counts[ANSWERS];
	} *shared;
};

static int kcmp(pid_t pid1, pid_t pid2, int type, unsigned long idx1,
		unsigned long idx2)
{
	int ret = syscall(__NR_kcmp, pid1, pid2, type, idx1, idx2);

	return ret < 0 ? -errno : ret;
}

/* Fail the test case if a system call fails. */
#define check(call) checked(call, #call)

static int checked(int ret, const char *call)
{
	if (ret >= 0)
		return ret;
	ksft_print_msg("%s: %s\n", call, strerror(errno));
	_exit(KSFT_FAIL);
}

/* --- The churner --------------------------------------------------------- */

static void nap(const struct race *race)
{
	if (race->interrupting)
		check(usleep(1 + random() % SLEEP_MAX));
}

static void move(int from, int to)
{
	check(dup2(from, to));
	check(close(from));
}

static void open_x(void)
{
	move(eventfd(0, 0), X);
}

static void open_y(const struct race *race)
{
	struct epoll_event ev = { .events = EPOLLIN };

	move(eventfd(0, 0), Y);
	if (race->type == KCMP_EPOLL_TFD)
		check(epoll_ctl(EPOLL, EPOLL_CTL_ADD, Y, &ev));
}

static void close_y(const struct race *race)
{
	if (race->type == KCMP_EPOLL_TFD)
		check(epoll_ctl(EPOLL, EPOLL_CTL_DEL, Y, NULL));
	check(close(Y));
}

static void open_epoll(void)
{
	move(epoll_create1(0), EPOLL);
}

static void open_sockets(void)
{
	int pair[2];

	check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	move(pair[0], SOCK_A);
	move(pair[1], SOCK_B);
}

static void churn_close(struct race *race)
{
	open_x();
	nap(race);
	check(close(X));
	open_y(race);
	nap(race);
	close_y(race);
}

/* X is closed by dup2() of another file. */
static void churn_dup2(struct race *race)
{
	open_x();
	nap(race);
	check(dup2(PLAIN, X));
	open_y(race);
	check(close(X));
	nap(race);
	close_y(race);
}

/* The last reference to X is in a message, which is received or dropped. */
static void churn_scm_rights(struct race *race)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr hdr;
	} control = { .hdr = {
		.cmsg_len = CMSG_LEN(sizeof(int)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	} };
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	bool receive = race->rounds % 2;
	int fd = X;

	open_x();
	memcpy(CMSG_DATA(&control.hdr), &fd, sizeof(fd));
	check(sendmsg(SOCK_A, &msg, 0));
	nap(race);
	check(close(X));
	if (receive) {
		check(recvmsg(SOCK_B, &msg, 0));
		memcpy(&fd, CMSG_DATA(&control.hdr), sizeof(fd));
		check(close(fd));
	} else {
		check(close(SOCK_A));
		check(close(SOCK_B));
	}
	open_y(race);
	nap(race);
	close_y(race);
	if (!receive)
		open_sockets();
}

/* X is open in a child, which exits or executes a program. */
static void churn_exec(struct race *race)
{
	bool exec = race->rounds % 8 == 0;
	pid_t child = check(fork());
	int status;
	char byte;

	if (child == 0) {
		check(close(SOCK_A));
		open_x();
		check(fcntl(X, F_SETFD, FD_CLOEXEC));
		check(write(SOCK_B, "", 1));
		check(read(SOCK_B, &byte, 1));
		if (exec)
			check(execl("/proc/self/exe", "kcmp_race_test", EXIT,
				    NULL));
		_exit(0);
	}
	check(read(SOCK_A, &byte, 1));
	race->shared->pid1 = child;
	nap(race);
	check(write(SOCK_A, "", 1));
	check(waitpid(child, &status, 0));
	checked(-status, "exit of a child");
	open_y(race);
	nap(race);
	close_y(race);
}

/*
 * The epoll file is replaced, too, with or without an entry. In between, another
 * kind of file is at its fd.
 */
static void churn_epoll(struct race *race)
{
	check(dup2(PLAIN, EPOLL));
	open_x();
	nap(race);
	open_epoll();
	nap(race);
	check(close(X));
	check(close(EPOLL));
	open_epoll();
	open_y(race);
	nap(race);
	if (race->rounds % 2)
		check(close(EPOLL));
	else
		check(epoll_ctl(EPOLL, EPOLL_CTL_DEL, Y, NULL));
	check(close(Y));
}

/* --- The caller ---------------------------------------------------------- */

/* Return the name of an answer that was not seen often enough, or NULL. */
static const char *missing(const struct race *race)
{
	const atomic_ulong *counts = race->shared->counts;

	if (race->interrupting &&
	    counts[EQUAL] + counts[LESS] + counts[GREATER] < HITS_MIN)
		return "calls that find both X and Y";
	for (int i = SRCH; i < ANSWERS; i++)
		if (race->errors & (1 << i) && !counts[i])
			return answers[i].name;
	return NULL;
}

static void call_kcmp(const struct race *race, pid_t pid2, unsigned long calls)
{
	const struct kcmp_epoll_slot slot = { .efd = EPOLL, .tfd = Y };
	unsigned long idx2 = race->type == KCMP_FILE ? Y : (unsigned long)&slot;

	for (unsigned long n = 0; !race->shared->stop; n++) {
		int ret, i = 0;

		if (n >= calls && !missing(race))
			break;
		ret = kcmp(race->shared->pid1, pid2, race->type, X, idx2);
		while (i < ANSWERS && answers[i].ret != ret)
			i++;
		if (i == ANSWERS || (i >= SRCH && !(race->errors & (1 << i)))) {
			race->shared->unexpected = ret;
			break;
		}
		race->shared->counts[i]++;
	}
	race->shared->stop = true;
}

/* --- The test ------------------------------------------------------------ */

FIXTURE(race)
{
	struct race race;
};

FIXTURE_VARIANT(race)
{
	const char *name;
	int type;
	void (*churn)(struct race *race);
	unsigned int errors;
};

#define VARIANT(type, how, errors) { #type ", " #how, type, churn_##how, errors }

FIXTURE_VARIANT_ADD(race, KCMP_FILE_close)
	VARIANT(KCMP_FILE, close, 1 << BADF);
FIXTURE_VARIANT_ADD(race, KCMP_FILE_dup2)
	VARIANT(KCMP_FILE, dup2, 1 << BADF);
FIXTURE_VARIANT_ADD(race, KCMP_FILE_scm_rights)
	VARIANT(KCMP_FILE, scm_rights, 1 << BADF);
FIXTURE_VARIANT_ADD(race, KCMP_FILE_exec)
	VARIANT(KCMP_FILE, exec, 1 << BADF | 1 << SRCH);
FIXTURE_VARIANT_ADD(race, KCMP_EPOLL_TFD_close)
	VARIANT(KCMP_EPOLL_TFD, close, 1 << BADF | 1 << NOENT);
FIXTURE_VARIANT_ADD(race, KCMP_EPOLL_TFD_dup2)
	VARIANT(KCMP_EPOLL_TFD, dup2, 1 << BADF | 1 << NOENT);
FIXTURE_VARIANT_ADD(race, KCMP_EPOLL_TFD_scm_rights)
	VARIANT(KCMP_EPOLL_TFD, scm_rights, 1 << BADF | 1 << NOENT);
FIXTURE_VARIANT_ADD(race, KCMP_EPOLL_TFD_exec)
	VARIANT(KCMP_EPOLL_TFD, exec, 1 << BADF | 1 << NOENT | 1 << SRCH);
FIXTURE_VARIANT_ADD(race, KCMP_EPOLL_TFD_epoll)
	VARIANT(KCMP_EPOLL_TFD, epoll, 1 << BADF | 1 << NOENT | 1 << INVAL);

FIXTURE_SETUP(race)
{
	struct race *race = &self->race;
	int count = 0;
	cpu_set_t set;

	race->type = variant->type;
	race->errors = variant->errors;
	if (kcmp(getpid(), getpid(), KCMP_VM, 0, 0))
		SKIP(return, "the kernel has no kcmp(2)");
	if (race->type == KCMP_EPOLL_TFD && epoll_create1(0) < 0)
		SKIP(return, "the kernel has no epoll");

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(set), &set));
	for (int cpu = 0; cpu < CPU_SETSIZE && count < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			race->cpus[count++] = cpu;
	if (count < 2)
		SKIP(return, "needs two CPUs");

	race->shared = mmap(NULL, sizeof(*race->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(race->shared != MAP_FAILED);
	race->shared->pid1 = getpid();
	move(eventfd(0, 0), PLAIN);
	open_sockets();
	if (race->type == KCMP_EPOLL_TFD)
		open_epoll();
}

FIXTURE_TEARDOWN(race)
{
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	check(sched_setaffinity(0, sizeof(set), &set));
}

static unsigned long from_env(const char *name, unsigned long value)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 0) : value;
}

static void run_race(struct __test_metadata *_metadata, struct race *race,
		     const FIXTURE_VARIANT(race) * variant)
{
	unsigned long calls = from_env("KCMP_RACE_CALLS", KCMP_RACE_CALLS);
	time_t seconds = from_env("KCMP_RACE_SECONDS", KCMP_RACE_SECONDS);
	pid_t pid = getpid(), caller;
	time_t begin = time(NULL);
	char text[256] = "";
	int status, len = 0;

	caller = fork();
	ASSERT_LE(0, caller);
	if (caller == 0) {
		check(prctl(PR_SET_PDEATHSIG, SIGKILL));
		if (getppid() != pid)
			_exit(KSFT_FAIL);
		/* Hold no reference to a file of the churner. */
		check(syscall(__NR_close_range, 3, ~0U, 0));
		check(sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){}));
		run_on(race->cpus[0]);
		call_kcmp(race, pid, calls);
		_exit(0);
	}

	run_on(race->cpus[!race->interrupting]);
	for (; !race->shared->stop && time(NULL) - begin < seconds; race->rounds++)
		variant->churn(race);
	race->shared->stop = true;
	ASSERT_EQ(caller, waitpid(caller, &status, 0));
	ASSERT_EQ(0, status);

	calls = 0;
	for (int i = 0; i < ANSWERS; i++) {
		unsigned long count = race->shared->counts[i];

		calls += count;
		if (count)
			len += sprintf(text + len, "%s %s %lu", len ? "," : "",
				       answers[i].name, count);
	}
	ksft_print_msg("%s, %s: %lu calls and %lu rounds in %ld s:%s\n",
		       variant->name, _metadata->name, calls, race->rounds,
		       (long)(time(NULL) - begin), text);

	EXPECT_EQ(0, atomic_load(&race->shared->counts[EQUAL]));
	EXPECT_EQ(0, atomic_load(&race->shared->unexpected));
	if (!_metadata->exit_code && missing(race))
		SKIP(return, "inconclusive: too few %s", missing(race));
}

TEST_F_TIMEOUT(race, in_parallel, TIMEOUT)
{
	run_race(_metadata, &self->race, variant);
}

TEST_F_TIMEOUT(race, interrupting, TIMEOUT)
{
	const struct sched_param param = { .sched_priority = 1 };

	self->race.interrupting = true;
	if (sched_setscheduler(0, SCHED_FIFO, &param))
		SKIP(return, "may not use SCHED_FIFO");
	run_race(_metadata, &self->race, variant);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], EXIT))
		return 0;

	return test_harness_run(argc, argv);
}
