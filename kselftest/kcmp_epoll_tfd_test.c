// SPDX-License-Identifier: GPL-2.0
/*
 * Test KCMP_EPOLL_TFD: does an fd refer to the target file of an entry of an
 * interest list?
 *
 * An entry is identified by the fd that was added (tfd) and, since several can
 * share an fd, by the count of entries of that fd before it (toff).
 */
#define _GNU_SOURCE

#include <errno.h>
#include <limits.h>
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

/* The fd under which several files are added; closed when a test begins. */
#define TFD		500
#define SHARED		6

#define NOT_OPEN	777
#define NOT_A_PID	INT_MAX
#define NOBODY		65534

/* Return the result, or the negative errno. */
static int kcmp(pid_t pid1, pid_t pid2, int type, unsigned long idx1,
		unsigned long idx2)
{
	int ret = syscall(__NR_kcmp, pid1, pid2, type, idx1, idx2);

	return ret < 0 ? -errno : ret;
}

static int kcmp_slot(pid_t pid1, pid_t pid2, unsigned long fd, const void *slot)
{
	return kcmp(pid1, pid2, KCMP_EPOLL_TFD, fd, (unsigned long)slot);
}

static int kcmp_entry_of(pid_t pid1, int fd, pid_t pid2, int efd,
			 unsigned int tfd, unsigned int toff)
{
	const struct kcmp_epoll_slot slot = {
		.efd = efd, .tfd = tfd, .toff = toff,
	};

	return kcmp_slot(pid1, pid2, fd, &slot);
}

/* Compare @fd with entry (@tfd, @toff) of @efd, all of this process. */
static int kcmp_entry(int fd, int efd, unsigned int tfd, unsigned int toff)
{
	return kcmp_entry_of(getpid(), fd, getpid(), efd, tfd, toff);
}

static int epoll_add(int efd, int fd, __u64 data)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = data };

	return epoll_ctl(efd, EPOLL_CTL_ADD, fd, &ev);
}

/* Add a file that is open at @tfd only meanwhile. */
static int epoll_add_at(int efd, int fd, int tfd, __u64 data)
{
	int ret;

	if (dup2(fd, tfd) != tfd)
		return -1;
	ret = epoll_add(efd, tfd, data);
	return close(tfd) ? -1 : ret;
}

/* Fork a child that sleeps until it is killed, or this process has ended. */
static pid_t fork_child(void)
{
	int pair[2];
	char byte;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -1;
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		if (write(pair[1], "", 1) == 1 && read(pair[1], &byte, 1) == 0)
			_exit(0);
		_exit(1);
	}
	close(pair[1]);
	return read(pair[0], &byte, 1) == 1 ? pid : -1;
}

static void kill_and_reap(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Send @fd on a socket, or receive one and return it. */
static int pass_fd(int sock, int fd, bool receive)
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

	memcpy(CMSG_DATA(&control.hdr), &fd, sizeof(fd));
	if (!receive)
		return sendmsg(sock, &msg, 0) == 1 ? 0 : -1;
	if (recvmsg(sock, &msg, 0) != 1)
		return -1;
	memcpy(&fd, CMSG_DATA(&control.hdr), sizeof(fd));
	return fd;
}

/* Read the data of the entries of @tfd from fdinfo, and return their number. */
static int read_fdinfo(int efd, int tfd, __u64 *data, int max)
{
	char line[256];
	int count = 0;
	FILE *file;

	snprintf(line, sizeof(line), "/proc/self/fdinfo/%d", efd);
	file = fopen(line, "r");
	if (!file)
		return -1;
	while (count < max && fgets(line, sizeof(line), file)) {
		unsigned long long value;
		int fd;

		if (sscanf(line, "tfd: %d events: %*x data: %llx", &fd,
			   &value) == 2 && fd == tfd)
			data[count++] = value;
	}
	fclose(file);
	return count;
}

FIXTURE(epoll)
{
	int efd;
	int tfd;	/* a file that was added, at this fd */
	int other;	/* a file that was not added */
	int fds[SHARED];	/* for add_shared() */
};

FIXTURE_SETUP(epoll)
{
	if (kcmp(getpid(), getpid(), KCMP_VM, 0, 0))
		SKIP(return, "the kernel has no kcmp(2)");
	self->efd = epoll_create1(0);
	if (self->efd < 0)
		SKIP(return, "the kernel has no epoll");

	self->tfd = eventfd(0, 0);
	ASSERT_LE(0, self->tfd);
	self->other = eventfd(0, 0);
	ASSERT_LE(0, self->other);
	ASSERT_EQ(0, epoll_add(self->efd, self->tfd, 0));
}

FIXTURE_TEARDOWN(epoll)
{
}

/* --- Results ------------------------------------------------------------- */

/* The result is that of KCMP_FILE, and fit for sorting. */
TEST_F(epoll, agrees_with_kcmp_file)
{
	int fds[16], seen[3] = {};

	for (int i = 0; i < 16; i++) {
		fds[i] = eventfd(0, 0);
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(0, epoll_add(self->efd, fds[i], 0));
	}
	for (int i = 0; i < 16; i++) {
		for (int j = 0; j < 16; j++) {
			int result = kcmp_entry(fds[i], self->efd, fds[j], 0);

			ASSERT_EQ(kcmp(getpid(), getpid(), KCMP_FILE, fds[i],
				       fds[j]), result);
			ASSERT_EQ(i == j, result == 0);
			ASSERT_TRUE(result >= 0 && result <= 2);
			seen[result]++;
		}
	}
	EXPECT_EQ(seen[1], seen[2]);
	EXPECT_LT(0, kcmp_entry(self->other, self->efd, self->tfd, 0));
}

/* --- Entries that share an fd -------------------------------------------- */

/* Add files, each at TFD and with its index as data, that stay open as fds[]. */
static bool add_shared(int efd, int fds[SHARED])
{
	for (int i = 0; i < SHARED; i++) {
		fds[i] = eventfd(0, 0);
		if (fds[i] < 0 || epoll_add_at(efd, fds[i], TFD, i))
			return false;
	}
	return true;
}

/* Check that the entries of TFD are the files in fds[], in fdinfo's order. */
static void check_shared(struct __test_metadata *_metadata, int efd,
			 const int fds[], int count)
{
	__u64 data[SHARED + 1];

	ASSERT_EQ(count, read_fdinfo(efd, TFD, data, SHARED + 1));
	for (int toff = 0; toff < count; toff++)
		for (int i = 0; i < SHARED; i++)
			if (fds[i] >= 0)
				EXPECT_EQ(data[toff] == i,
					  kcmp_entry(fds[i], efd, TFD, toff) == 0);
	EXPECT_EQ(-ENOENT, kcmp_entry(efd, efd, TFD, count));
	EXPECT_EQ(-ENOENT, kcmp_entry(efd, efd, TFD, INT_MAX));
	EXPECT_EQ(-ENOENT, kcmp_entry(efd, efd, TFD, UINT_MAX));
}

/* When a file is closed, toff of the entries behind it decreases. */
TEST_F(epoll, shared_fd)
{
	ASSERT_EQ(0, epoll_add_at(self->efd, self->other, TFD - 1, 0));
	ASSERT_EQ(0, epoll_add_at(self->efd, self->other, TFD + 1, 0));
	ASSERT_TRUE(add_shared(self->efd, self->fds));
	check_shared(_metadata, self->efd, self->fds, SHARED);

	for (int i = 0; i < SHARED; i++) {
		/* Not in the order in which the files were added. */
		int victim = i * 5 % SHARED;

		close(self->fds[victim]);
		self->fds[victim] = -1;
		check_shared(_metadata, self->efd, self->fds, SHARED - 1 - i);
	}
	EXPECT_EQ(0, kcmp_entry(self->other, self->efd, TFD - 1, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd, TFD - 1, 1));
	EXPECT_EQ(0, kcmp_entry(self->other, self->efd, TFD + 1, 0));
}

TEST_F(epoll, one_file_at_several_fds)
{
	for (int tfd = TFD; tfd < TFD + 4; tfd++)
		ASSERT_EQ(0, epoll_add_at(self->efd, self->other, tfd, 0));
	for (int tfd = TFD; tfd < TFD + 4; tfd++) {
		EXPECT_EQ(0, kcmp_entry(self->other, self->efd, tfd, 0));
		EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd, tfd, 1));
	}
}

/* --- Lookups after another one ------------------------------------------- */

/* A lookup may continue from the entry that the last one found. */
static void check_after(struct __test_metadata *_metadata, int efd,
			const int fds[], int count, int toff)
{
	__u64 data[SHARED];

	ASSERT_EQ(count, read_fdinfo(efd, TFD, data, SHARED));
	EXPECT_EQ(toff < count ? 0 : -ENOENT,
		  kcmp_entry(toff < count ? fds[data[toff]] : efd, efd, TFD, toff));
}

TEST_F(epoll, any_lookup_after_any_other)
{
	ASSERT_TRUE(add_shared(self->efd, self->fds));
	ASSERT_EQ(0, epoll_add_at(self->efd, self->other, TFD + 1, 0));
	for (int first = 0; first <= SHARED; first++) {
		for (int toff = 0; toff <= SHARED; toff++) {
			check_after(_metadata, self->efd, self->fds, SHARED, first);
			EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd,
						      TFD + 1, 1));
			check_after(_metadata, self->efd, self->fds, SHARED, toff);
			EXPECT_EQ(0, kcmp_entry(self->other, self->efd, TFD + 1, 0));
			check_after(_metadata, self->efd, self->fds, SHARED, toff);
		}
	}
}

/* The list changes between two lookups, before, at and behind the first entry. */
TEST_F(epoll, list_changes_between_lookups)
{
	struct epoll_event ev = { .events = EPOLLIN };

	for (int victim = 0; victim < SHARED; victim++) {
		for (int toff = 0; toff < SHARED; toff++) {
			int *fds = self->fds;

			ASSERT_TRUE(add_shared(self->efd, fds));
			check_after(_metadata, self->efd, fds, SHARED, toff);

			ASSERT_EQ(TFD, dup2(fds[victim], TFD));
			ASSERT_EQ(0, epoll_ctl(self->efd, EPOLL_CTL_DEL, TFD, NULL));
			check_after(_metadata, self->efd, fds, SHARED - 1, toff);

			ev.data.u64 = victim;
			ASSERT_EQ(0, epoll_ctl(self->efd, EPOLL_CTL_ADD, TFD, &ev));
			ASSERT_EQ(0, close(TFD));
			check_after(_metadata, self->efd, fds, SHARED, toff);

			ASSERT_EQ(0, close(fds[victim]));
			check_after(_metadata, self->efd, fds, SHARED - 1, toff);
			for (int i = 0; i < SHARED; i++)
				if (i != victim)
					close(fds[i]);
		}
	}
}

/* --- Where the file is --------------------------------------------------- */

/* The recorded fd is closed, then reused, and the file open as another fd. */
TEST_F(epoll, fd_closed_and_reused)
{
	int fd = dup(self->tfd);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, close(self->tfd));
	EXPECT_EQ(0, kcmp_entry(fd, self->efd, self->tfd, 0));
	EXPECT_EQ(-EBADF, kcmp_entry(self->tfd, self->efd, self->tfd, 0));

	ASSERT_EQ(self->tfd, dup2(self->other, self->tfd));
	EXPECT_EQ(0, kcmp_entry(fd, self->efd, self->tfd, 0));
	EXPECT_LT(0, kcmp_entry(self->tfd, self->efd, self->tfd, 0));

	/* The last reference takes the entry along. */
	ASSERT_EQ(0, close(fd));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd, self->tfd, 0));
}

/* The file, and the epoll file, are open in a child only. */
TEST_F(epoll, open_in_another_process)
{
	pid_t pid = fork_child();

	ASSERT_LT(0, pid);
	ASSERT_EQ(0, close(self->tfd));
	EXPECT_EQ(0, kcmp_entry_of(pid, self->tfd, getpid(), self->efd,
				   self->tfd, 0));
	EXPECT_LT(0, kcmp_entry_of(getpid(), self->other, pid, self->efd,
				   self->tfd, 0));
	ASSERT_EQ(0, close(self->efd));
	EXPECT_EQ(-EBADF, kcmp_entry(self->other, self->efd, self->tfd, 0));
	EXPECT_EQ(0, kcmp_entry_of(pid, self->tfd, pid, self->efd, self->tfd, 0));
	kill_and_reap(pid);
}

TEST_F(epoll, in_flight_on_unix_socket)
{
	int pair[2], fd;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ASSERT_EQ(0, pass_fd(pair[0], self->tfd, false));
	ASSERT_EQ(0, close(self->tfd));
	EXPECT_LT(0, kcmp_entry(self->other, self->efd, self->tfd, 0));

	fd = pass_fd(pair[1], 0, true);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, kcmp_entry(fd, self->efd, self->tfd, 0));
}

/* A zombie has no files. */
TEST_F(epoll, zombie)
{
	siginfo_t info;
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (pid == 0)
		_exit(0);
	ASSERT_EQ(0, waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	EXPECT_EQ(-EBADF, kcmp_entry_of(pid, self->tfd, getpid(), self->efd,
					self->tfd, 0));
	EXPECT_EQ(-EBADF, kcmp_entry_of(getpid(), self->tfd, pid, self->efd,
					self->tfd, 0));
	waitpid(pid, NULL, 0);
}

/* --- Errors -------------------------------------------------------------- */

/* Each call has the error that is expected, and all that are checked later. */
TEST_F(epoll, order_of_errors)
{
	const void *bad = (void *)1UL;
	pid_t pid = getpid();

	EXPECT_EQ(-ESRCH, kcmp_slot(NOT_A_PID, pid, NOT_OPEN, bad));
	EXPECT_EQ(-ESRCH, kcmp_slot(pid, NOT_A_PID, NOT_OPEN, bad));
	EXPECT_EQ(-EFAULT, kcmp_slot(pid, pid, NOT_OPEN, bad));
	EXPECT_EQ(-EFAULT, kcmp_slot(pid, pid, self->tfd, NULL));
	EXPECT_EQ(-EBADF, kcmp_entry(NOT_OPEN, self->other, NOT_OPEN, 1));
	EXPECT_EQ(-EBADF, kcmp_entry(self->tfd, NOT_OPEN, NOT_OPEN, 1));
	EXPECT_EQ(-EINVAL, kcmp_entry(self->tfd, self->other, NOT_OPEN, 1));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->tfd, self->efd, NOT_OPEN, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->tfd, self->efd, self->tfd, 1));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->tfd, self->efd, -1, 0));
	EXPECT_EQ(0, kcmp_entry(self->tfd, self->efd, self->tfd, 0));
}

/* Neither process may be inspected by another user. EFAULT would come next. */
TEST_F(epoll, eperm)
{
	pid_t child;

	if (geteuid())
		SKIP(return, "has to be started by root");
	child = fork_child();
	ASSERT_LT(0, child);
	if (setresuid(NOBODY, NOBODY, NOBODY))
		SKIP(return, "may not change the user");

	EXPECT_EQ(-EFAULT, kcmp_slot(getpid(), getpid(), NOT_OPEN, NULL));
	EXPECT_EQ(-EPERM, kcmp_slot(child, child, NOT_OPEN, NULL));
	EXPECT_EQ(-EPERM, kcmp_slot(getpid(), child, NOT_OPEN, NULL));
	EXPECT_EQ(-EPERM, kcmp_slot(child, getpid(), NOT_OPEN, NULL));
}

/* --- False positives ----------------------------------------------------- */

/*
 * This process opens a file at fd X and closes it, then opens another at fd Y,
 * adds it, and closes it, over and over. Another process keeps comparing X with
 * Y, or with the entry of Y: they are never the same file, but the second one
 * tends to get the memory of the first.
 *
 * Both share a CPU, and this one is SCHED_FIFO and sleeps at times: its timer
 * interrupts the other anywhere in kcmp(), and the files change before that goes
 * on. The files never are open at once while this process sleeps: an interrupted
 * call finds both only if it was interrupted after it found X. The number of
 * these calls shows whether the test could fail at all.
 */
enum { X = 100, Y, EPOLL };

#define SECONDS		8
#define CALLS		100000
#define HITS		10

FIXTURE(race)
{
	struct {
		atomic_bool stop;
		atomic_ulong calls, hits, equal;
	} *shared;
};

FIXTURE_VARIANT(race)
{
	int type;
};

FIXTURE_VARIANT_ADD(race, kcmp_file) { .type = KCMP_FILE };
FIXTURE_VARIANT_ADD(race, kcmp_epoll_tfd) { .type = KCMP_EPOLL_TFD };

FIXTURE_SETUP(race)
{
	const struct sched_param param = { .sched_priority = 1 };
	cpu_set_t all, one;
	int cpu = 0;

	if (kcmp(getpid(), getpid(), KCMP_VM, 0, 0))
		SKIP(return, "the kernel has no kcmp(2)");
	if (dup2(epoll_create1(0), EPOLL) < 0)
		SKIP(return, "the kernel has no epoll");
	if (sched_setscheduler(0, SCHED_FIFO, &param))
		SKIP(return, "may not use SCHED_FIFO");

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	self->shared = mmap(NULL, sizeof(*self->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->shared != MAP_FAILED);
}

FIXTURE_TEARDOWN(race)
{
}

static int open_at(int fd)
{
	int lowest = eventfd(0, 0);

	return dup2(lowest, fd) == fd && close(lowest) == 0 ? 0 : -1;
}

static int nap(void)
{
	return usleep(1 + random() % 500);
}

TEST_F_TIMEOUT(race, no_false_positive, 30)
{
	const struct kcmp_epoll_slot slot = { .efd = EPOLL, .tfd = Y };
	bool epoll = variant->type == KCMP_EPOLL_TFD;
	time_t end = time(NULL) + SECONDS;
	pid_t pid = getpid(), caller;

	caller = fork();
	ASSERT_LE(0, caller);
	if (caller == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* Hold no reference to a file of the other process. */
		syscall(__NR_close_range, 3, ~0U, 0);
		sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){});
		while (!self->shared->stop) {
			int ret = kcmp(pid, pid, variant->type, X,
				       epoll ? (unsigned long)&slot : Y);

			self->shared->calls++;
			self->shared->hits += ret >= 0;
			self->shared->equal += ret == 0;
		}
		_exit(0);
	}

	while (time(NULL) < end && !self->shared->equal &&
	       (self->shared->calls < CALLS || self->shared->hits < HITS)) {
		ASSERT_EQ(0, open_at(X));
		ASSERT_EQ(0, nap());
		ASSERT_EQ(0, close(X));
		ASSERT_EQ(0, open_at(Y));
		ASSERT_EQ(0, epoll ? epoll_add(EPOLL, Y, 0) : 0);
		ASSERT_EQ(0, nap());
		ASSERT_EQ(0, close(Y));
	}
	self->shared->stop = true;
	ASSERT_EQ(caller, waitpid(caller, NULL, 0));

	ksft_print_msg("%lu calls, %lu found both files\n", self->shared->calls,
		       self->shared->hits);
	EXPECT_EQ(0, atomic_load(&self->shared->equal));
	if (!self->shared->equal && self->shared->hits < HITS)
		SKIP(return, "inconclusive: too few calls found both files");
}

TEST_HARNESS_MAIN
