// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of KCMP_EPOLL_TFD: does a file stand behind a target of an epoll file?
 *
 * A target is known by the number (tfd) it was added under and, since several
 * can have the same number, by how many of that number stand before it (toff).
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

/* A number that the tests use for several files, and that nothing else has. */
#define NUMBER		500

/* A number that is never open. */
#define NOT_OPEN	777

/* A descriptor that a program started by the test "after_exec" asks about. */
#define AFTER_EXEC	"--after-exec"

#define NOBODY		65534

/* Return the verdict, or the negative errno. */
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

static int kcmp_tfd_of(pid_t pid1, int fd, pid_t pid2, int efd, unsigned int tfd,
		       unsigned int toff)
{
	const struct kcmp_epoll_slot slot = {
		.efd = efd, .tfd = tfd, .toff = toff,
	};

	return kcmp_slot(pid1, pid2, fd, &slot);
}

/* File @fd and target (@tfd, @toff) of @efd, all of this process. */
static int kcmp_tfd(int fd, int efd, unsigned int tfd, unsigned int toff)
{
	return kcmp_tfd_of(getpid(), fd, getpid(), efd, tfd, toff);
}

static int kcmp_file(int fd1, int fd2)
{
	return kcmp(getpid(), getpid(), KCMP_FILE, fd1, fd2);
}

static int epoll_add(int efd, int fd, uint64_t data)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = data };

	return epoll_ctl(efd, EPOLL_CTL_ADD, fd, &ev);
}

/*
 * In a child: live until killed, or until this process has ended, which closes
 * the other end of the pipe. (A signal on the death of the parent will not do:
 * a parent that became nobody may not send it.)
 */
static void sleep_while_alive(const int lifeline[2])
{
	char byte;

	close(lifeline[1]);
	if (read(lifeline[0], &byte, 1) < 0)
		_exit(1);
	_exit(0);
}

static pid_t fork_sleeper(void)
{
	int lifeline[2];
	pid_t pid;

	if (pipe(lifeline))
		return -1;
	pid = fork();
	if (pid == 0)
		sleep_while_alive(lifeline);
	close(lifeline[0]);
	return pid;
}

static void kill_and_reap(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static int send_fd(int sock, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.buf, .msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));

	return sendmsg(sock, &msg, 0) == 1 ? 0 : -1;
}

static int receive_fd(int sock)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.buf, .msg_controllen = sizeof(control.buf),
	};
	int fd;

	if (recvmsg(sock, &msg, 0) != 1 || !CMSG_FIRSTHDR(&msg))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return fd;
}

/*
 * Read from fdinfo what the targets with number @tfd carry as data, in the
 * order in which they are listed. Return how many there are.
 */
static int fdinfo_data(int efd, int tfd, uint64_t *data, int max)
{
	char path[64], line[256];
	int count = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", efd);
	file = fopen(path, "r");
	if (!file)
		return -1;

	while (fgets(line, sizeof(line), file)) {
		unsigned long long value;
		int number;

		if (sscanf(line, "tfd: %d events: %*x data: %llx", &number,
			   &value) != 2 || number != tfd)
			continue;
		if (count < max)
			data[count] = value;
		count++;
	}
	fclose(file);
	return count;
}

static bool kcmp_is_built(void)
{
	return kcmp(getpid(), getpid(), KCMP_VM, 0, 0) == 0;
}

static bool epoll_is_built(void)
{
	int efd = epoll_create1(0);

	return efd >= 0 && close(efd) == 0;
}

FIXTURE(epoll)
{
	int efd;
	/* A file that is a target, one that is not. */
	int target, other;
};

FIXTURE_SETUP(epoll)
{
	if (!kcmp_is_built() || !epoll_is_built())
		SKIP(return, "the kernel has no kcmp(2), or no epoll");

	self->efd = epoll_create1(0);
	ASSERT_LE(0, self->efd);
	self->target = eventfd(0, 0);
	ASSERT_LE(0, self->target);
	self->other = eventfd(0, 0);
	ASSERT_LE(0, self->other);
	ASSERT_EQ(0, epoll_add(self->efd, self->target, 0));
}

FIXTURE_TEARDOWN(epoll)
{
	close(self->efd);
	close(self->target);
	close(self->other);
}

/* --- Verdicts ---------------------------------------------------------- */

TEST_F(epoll, equal_and_not)
{
	EXPECT_EQ(0, kcmp_tfd(self->target, self->efd, self->target, 0));
	EXPECT_LT(0, kcmp_tfd(self->other, self->efd, self->target, 0));
}

#define FILES	64

static int by_kcmp_file(const void *a, const void *b)
{
	static const int order[] = { 0, -1, 1 };

	return order[kcmp_file(*(const int *)a, *(const int *)b)];
}

/* All pairs of files: same verdict as KCMP_FILE, and an order to sort by. */
TEST(agrees_with_kcmp_file)
{
	int fds[FILES], seen[3] = {};
	int efd;

	if (!kcmp_is_built() || !epoll_is_built())
		SKIP(return, "the kernel has no kcmp(2), or no epoll");

	efd = epoll_create1(0);
	ASSERT_LE(0, efd);
	for (int i = 0; i < FILES; i++) {
		fds[i] = eventfd(0, 0);
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(0, epoll_add(efd, fds[i], 0));
	}

	for (int i = 0; i < FILES; i++) {
		for (int j = 0; j < FILES; j++) {
			int verdict = kcmp_tfd(fds[i], efd, fds[j], 0);

			ASSERT_LE(0, verdict);
			ASSERT_GE(2, verdict);
			ASSERT_EQ(kcmp_file(fds[i], fds[j]), verdict);
			ASSERT_EQ(i == j, verdict == 0);
			seen[verdict]++;
		}
	}
	EXPECT_EQ(FILES, seen[0]);
	EXPECT_EQ(FILES * (FILES - 1) / 2, seen[1]);
	EXPECT_EQ(FILES * (FILES - 1) / 2, seen[2]);

	qsort(fds, FILES, sizeof(*fds), by_kcmp_file);
	for (int i = 0; i < FILES; i++) {
		for (int j = i + 1; j < FILES; j++) {
			ASSERT_EQ(1, kcmp_tfd(fds[i], efd, fds[j], 0));
			ASSERT_EQ(2, kcmp_tfd(fds[j], efd, fds[i], 0));
		}
	}
}

/* The index of the file is an unsigned int, like for KCMP_FILE. */
TEST_F(epoll, index_is_32_bits)
{
#if ULONG_MAX > UINT_MAX
	const struct kcmp_epoll_slot slot = {
		.efd = self->efd, .tfd = self->target,
	};
	unsigned long idx = self->target | 1UL << 32;

	EXPECT_EQ(0, kcmp(getpid(), getpid(), KCMP_FILE, idx, self->target));
	EXPECT_EQ(0, kcmp_slot(getpid(), getpid(), idx, &slot));
#else
	SKIP(return, "unsigned long has 32 bits");
#endif
}

/* --- Several targets under one number ---------------------------------- */

#define SHARING	8

/*
 * Add @SHARING files to the set, each under NUMBER, with its index as data.
 * Each lives on under the number that fds[] tells.
 */
static bool add_sharing(int efd, int fds[SHARING])
{
	for (int i = 0; i < SHARING; i++) {
		fds[i] = eventfd(0, 0);
		if (fds[i] < 0 || dup2(fds[i], NUMBER) != NUMBER ||
		    epoll_add(efd, NUMBER, i))
			return false;
	}
	close(NUMBER);
	return true;
}

/* Check that the targets under NUMBER are those in fds[], in fdinfo's order. */
static void check_sharing(struct __test_metadata *_metadata, int efd,
			  const int fds[], int count)
{
	uint64_t data[SHARING + 1];

	ASSERT_EQ(count, fdinfo_data(efd, NUMBER, data, SHARING + 1));
	for (int toff = 0; toff < count; toff++) {
		int found = 0;

		for (int i = 0; i < SHARING; i++) {
			int verdict = fds[i] < 0 ? 1 :
				      kcmp_tfd(fds[i], efd, NUMBER, toff);

			ASSERT_LE(0, verdict);
			if (verdict)
				continue;
			found++;
			EXPECT_EQ(data[toff], i);
		}
		EXPECT_EQ(1, found);
	}

	EXPECT_EQ(-ENOENT, kcmp_tfd(efd, efd, NUMBER, count));
	EXPECT_EQ(-ENOENT, kcmp_tfd(efd, efd, NUMBER, count + 1));
	EXPECT_EQ(-ENOENT, kcmp_tfd(efd, efd, NUMBER, INT_MAX));
	EXPECT_EQ(-ENOENT, kcmp_tfd(efd, efd, NUMBER, 1U << 31));
	EXPECT_EQ(-ENOENT, kcmp_tfd(efd, efd, NUMBER, UINT_MAX));
}

TEST_F(epoll, several_under_one_number)
{
	int fds[SHARING];

	ASSERT_TRUE(add_sharing(self->efd, fds));
	check_sharing(_metadata, self->efd, fds, SHARING);
}

TEST_F(epoll, several_between_neighbours)
{
	int fds[SHARING];

	ASSERT_EQ(NUMBER - 1, dup2(self->other, NUMBER - 1));
	ASSERT_EQ(0, epoll_add(self->efd, NUMBER - 1, 0));
	ASSERT_TRUE(add_sharing(self->efd, fds));
	ASSERT_EQ(NUMBER + 1, dup2(self->other, NUMBER + 1));
	ASSERT_EQ(0, epoll_add(self->efd, NUMBER + 1, 0));

	check_sharing(_metadata, self->efd, fds, SHARING);
	EXPECT_EQ(0, kcmp_tfd(self->other, self->efd, NUMBER - 1, 0));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->other, self->efd, NUMBER - 1, 1));
	EXPECT_EQ(0, kcmp_tfd(self->other, self->efd, NUMBER + 1, 0));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->other, self->efd, NUMBER + 1, 1));
}

/* As files under one number are closed, those that remain move up. */
TEST_F(epoll, several_closed_one_by_one)
{
	int fds[SHARING];

	ASSERT_TRUE(add_sharing(self->efd, fds));
	for (int i = 0; i < SHARING; i++) {
		/* Not in the order in which they were added. */
		int victim = i * 3 % SHARING;

		close(fds[victim]);
		fds[victim] = -1;
		check_sharing(_metadata, self->efd, fds, SHARING - 1 - i);
	}
}

/* One file under several numbers. */
TEST_F(epoll, one_file_under_several_numbers)
{
	for (int i = 0; i < SHARING; i++) {
		ASSERT_EQ(NUMBER + i, dup2(self->other, NUMBER + i));
		ASSERT_EQ(0, epoll_add(self->efd, NUMBER + i, 0));
		close(NUMBER + i);
	}
	for (int i = 0; i < SHARING; i++) {
		EXPECT_EQ(0, kcmp_tfd(self->other, self->efd, NUMBER + i, 0));
		EXPECT_EQ(-ENOENT,
			  kcmp_tfd(self->other, self->efd, NUMBER + i, 1));
	}
}

/* --- Where the file lives on ------------------------------------------- */

TEST_F(epoll, alive_through_dup)
{
	int number = self->target;
	int dupped = dup(self->target);

	ASSERT_LE(0, dupped);
	close(number);
	EXPECT_EQ(0, kcmp_tfd(dupped, self->efd, number, 0));

	/* The number is used again, by a file that is not in the set. */
	ASSERT_EQ(number, dup2(self->other, number));
	EXPECT_EQ(0, kcmp_tfd(dupped, self->efd, number, 0));
	EXPECT_LT(0, kcmp_tfd(number, self->efd, number, 0));
}

TEST_F(epoll, alive_in_child)
{
	int number = self->target;
	pid_t child = fork_sleeper();

	ASSERT_LT(0, child);
	close(number);
	EXPECT_EQ(-EBADF, kcmp_tfd(number, self->efd, number, 0));
	EXPECT_EQ(0, kcmp_tfd_of(child, number, getpid(), self->efd, number, 0));

	kill_and_reap(child);
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->other, self->efd, number, 0));
}

TEST_F(epoll, alive_in_unix_socket)
{
	int number = self->target, received, pair[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ASSERT_EQ(0, send_fd(pair[0], number));
	close(number);

	/* In flight: it is a target, and nobody has it. */
	EXPECT_LT(0, kcmp_tfd(self->other, self->efd, number, 0));

	ASSERT_EQ(number, dup2(self->other, number));
	received = receive_fd(pair[1]);
	ASSERT_LE(0, received);
	EXPECT_EQ(0, kcmp_tfd(received, self->efd, number, 0));
	EXPECT_LT(0, kcmp_tfd(number, self->efd, number, 0));
}

TEST_F(epoll, dropped_in_unix_socket)
{
	int number = self->target, pair[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ASSERT_EQ(0, send_fd(pair[0], number));
	close(number);
	close(pair[0]);
	EXPECT_LT(0, kcmp_tfd(self->other, self->efd, number, 0));
	close(pair[1]);
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->other, self->efd, number, 0));
}

TEST_F(epoll, last_reference_closed)
{
	int number = self->target;

	close(number);
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->other, self->efd, number, 0));

	/* Opened again under the same number: not a target. */
	ASSERT_EQ(number, dup2(self->other, number));
	EXPECT_EQ(-ENOENT, kcmp_tfd(number, self->efd, number, 0));
}

/* --- epoll_ctl(2) ------------------------------------------------------- */

TEST_F(epoll, ctl_del)
{
	ASSERT_EQ(0, epoll_ctl(self->efd, EPOLL_CTL_DEL, self->target, NULL));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->target, self->efd, self->target, 0));

	ASSERT_EQ(0, epoll_add(self->efd, self->target, 0));
	EXPECT_EQ(0, kcmp_tfd(self->target, self->efd, self->target, 0));
}

TEST_F(epoll, ctl_mod)
{
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLET };

	ASSERT_EQ(0, epoll_ctl(self->efd, EPOLL_CTL_MOD, self->target, &ev));
	EXPECT_EQ(0, kcmp_tfd(self->target, self->efd, self->target, 0));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->target, self->efd, self->target, 1));
}

/* Each key is found by EPOLL_CTL_*, whatever else stands under its number. */
TEST_F(epoll, ctl_finds_each_key)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fds[SHARING];

	ASSERT_TRUE(add_sharing(self->efd, fds));
	for (int i = 0; i < SHARING; i++) {
		ASSERT_EQ(NUMBER, dup2(fds[i], NUMBER));

		EXPECT_EQ(-1, epoll_add(self->efd, NUMBER, 0));
		EXPECT_EQ(EEXIST, errno);
		ev.data.u64 = i;
		EXPECT_EQ(0, epoll_ctl(self->efd, EPOLL_CTL_MOD, NUMBER, &ev));
		EXPECT_EQ(-1, epoll_ctl(self->efd, EPOLL_CTL_MOD, fds[i], &ev));
		EXPECT_EQ(ENOENT, errno);
	}
	close(NUMBER);
	check_sharing(_metadata, self->efd, fds, SHARING);

	for (int i = 0; i < SHARING; i++) {
		ASSERT_EQ(NUMBER, dup2(fds[i], NUMBER));
		EXPECT_EQ(0, epoll_ctl(self->efd, EPOLL_CTL_DEL, NUMBER, NULL));
		EXPECT_EQ(-1, epoll_ctl(self->efd, EPOLL_CTL_DEL, NUMBER, NULL));
		EXPECT_EQ(ENOENT, errno);
		close(fds[i]);
		fds[i] = -1;
		close(NUMBER);
		check_sharing(_metadata, self->efd, fds, SHARING - 1 - i);
	}
}

/* Targets under one number still report their events. */
TEST_F(epoll, events_of_several_under_one_number)
{
	struct epoll_event events[SHARING + 1];
	unsigned int seen = 0;
	int fds[SHARING];

	ASSERT_TRUE(add_sharing(self->efd, fds));
	for (int i = 0; i < SHARING; i++)
		ASSERT_EQ(0, eventfd_write(fds[i], 1));
	ASSERT_EQ(SHARING, epoll_wait(self->efd, events, SHARING + 1, 0));
	for (int i = 0; i < SHARING; i++)
		seen |= 1U << events[i].data.u64;
	EXPECT_EQ((1U << SHARING) - 1, seen);
}

TEST_F(epoll, empty_set)
{
	int efd = epoll_create1(0);

	ASSERT_LE(0, efd);
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->other, efd, self->target, 0));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->other, efd, 0, 0));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->other, efd, -1, -1));
}

TEST_F(epoll, epoll_in_epoll)
{
	int outer = epoll_create1(0);

	ASSERT_LE(0, outer);
	ASSERT_EQ(0, epoll_add(outer, self->efd, 0));
	ASSERT_EQ(0, epoll_add(outer, self->target, 0));

	EXPECT_EQ(0, kcmp_tfd(self->efd, outer, self->efd, 0));
	EXPECT_LT(0, kcmp_tfd(outer, outer, self->efd, 0));
	EXPECT_EQ(0, kcmp_tfd(self->target, outer, self->target, 0));
	EXPECT_EQ(0, kcmp_tfd(self->target, self->efd, self->target, 0));

	/* The file that is compared may be the epoll file that is asked. */
	EXPECT_LT(0, kcmp_tfd(self->efd, self->efd, self->target, 0));

	/* Nesting is still checked. */
	EXPECT_EQ(-1, epoll_add(self->efd, outer, 0));
	EXPECT_EQ(ELOOP, errno);
	EXPECT_EQ(-1, epoll_add(self->efd, self->efd, 0));
	EXPECT_EQ(EINVAL, errno);
}

/* --- Where the epoll file is -------------------------------------------- */

TEST_F(epoll, epoll_file_duplicated)
{
	int dupped = dup(self->efd);

	ASSERT_LE(0, dupped);
	EXPECT_EQ(0, kcmp_tfd(self->target, dupped, self->target, 0));
	close(self->efd);
	EXPECT_EQ(0, kcmp_tfd(self->target, dupped, self->target, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd(self->target, self->efd, self->target, 0));
}

TEST_F(epoll, epoll_file_in_child)
{
	pid_t child = fork_sleeper();

	ASSERT_LT(0, child);
	close(self->efd);
	EXPECT_EQ(0, kcmp_tfd_of(getpid(), self->target, child, self->efd,
				 self->target, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd(self->target, self->efd, self->target, 0));
	kill_and_reap(child);
}

/* Three processes: who asks, who has the file, who has the epoll file. */
TEST_F(epoll, three_processes)
{
	pid_t has_file, has_epoll;
	int lifeline[2];

	ASSERT_EQ(0, pipe(lifeline));
	has_file = fork();
	ASSERT_LE(0, has_file);
	if (has_file == 0) {
		close(self->efd);
		dup2(self->target, NUMBER);
		close(self->target);
		dup2(NUMBER, NUMBER + 1);
		sleep_while_alive(lifeline);
	}
	has_epoll = fork_sleeper();
	ASSERT_LT(0, has_epoll);

	/* dup2() in the child comes when it comes: NUMBER + 1 is the last. */
	while (kcmp(has_file, has_file, KCMP_FILE, NUMBER + 1, NUMBER + 1))
		sched_yield();
	close(self->efd);
	close(self->target);

	EXPECT_EQ(0, kcmp_tfd_of(has_file, NUMBER, has_epoll, self->efd,
				 self->target, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd_of(has_file, self->target, has_epoll,
				      self->efd, self->target, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd_of(has_file, NUMBER, has_file, self->efd,
				      self->target, 0));
	EXPECT_EQ(0, kcmp_tfd_of(has_epoll, self->target, has_epoll, self->efd,
				 self->target, 0));
	kill_and_reap(has_file);
	kill_and_reap(has_epoll);
}

struct thread {
	pthread_barrier_t ready, done;
	pid_t tid;
	bool unshare;
	int closes;
};

static void *thread_body(void *arg)
{
	struct thread *thread = arg;

	thread->tid = syscall(__NR_gettid);
	if (thread->unshare) {
		if (syscall(__NR_unshare, CLONE_FILES))
			thread->tid = -1;
		close(thread->closes);
	}
	pthread_barrier_wait(&thread->ready);
	pthread_barrier_wait(&thread->done);
	return NULL;
}

static void check_thread(struct __test_metadata *_metadata, int efd, int target,
			 bool unshare)
{
	struct thread thread = { .unshare = unshare, .closes = target };
	pthread_t id;

	pthread_barrier_init(&thread.ready, NULL, 2);
	pthread_barrier_init(&thread.done, NULL, 2);
	ASSERT_EQ(0, pthread_create(&id, NULL, thread_body, &thread));
	pthread_barrier_wait(&thread.ready);
	ASSERT_LT(0, thread.tid);

	/* A thread is asked about its own table, which it may share. */
	EXPECT_EQ(unshare ? -EBADF : 0,
		  kcmp_tfd_of(thread.tid, target, getpid(), efd, target, 0));
	EXPECT_EQ(0, kcmp_tfd_of(getpid(), target, thread.tid, efd, target, 0));

	pthread_barrier_wait(&thread.done);
	pthread_join(id, NULL);
}

TEST_F(epoll, threads_that_share_files)
{
	check_thread(_metadata, self->efd, self->target, false);
}

TEST_F(epoll, thread_with_its_own_files)
{
	check_thread(_metadata, self->efd, self->target, true);
}

/* The program that "after_exec" starts: asks about what it inherited. */
static int after_exec(char **argv)
{
	int efd = atoi(argv[0]), tfd = atoi(argv[1]), alive = atoi(argv[2]);

	/* The target's own number was closed by exec(), the file was not. */
	if (kcmp_tfd(tfd, efd, tfd, 0) != -EBADF)
		return 1;
	if (kcmp_tfd(alive, efd, tfd, 0) != 0)
		return 2;
	if (kcmp_tfd_of(getppid(), tfd, getpid(), efd, tfd, 0) != 0)
		return 3;
	return 0;
}

TEST_F(epoll, after_exec)
{
	char efd[16], tfd[16], alive[16];
	pid_t child;
	int status;

	ASSERT_EQ(NUMBER, dup2(self->target, NUMBER));
	ASSERT_EQ(0, fcntl(self->target, F_SETFD, FD_CLOEXEC));
	snprintf(efd, sizeof(efd), "%d", self->efd);
	snprintf(tfd, sizeof(tfd), "%d", self->target);
	snprintf(alive, sizeof(alive), "%d", NUMBER);

	child = fork();
	ASSERT_LE(0, child);
	if (child == 0) {
		execl("/proc/self/exe", "kcmp_epoll_tfd_test", AFTER_EXEC, efd,
		      tfd, alive, NULL);
		_exit(127);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

/* A process that has ended and was not waited for has no files. */
TEST_F(epoll, zombie)
{
	siginfo_t info;
	pid_t child = fork();

	ASSERT_LE(0, child);
	if (child == 0)
		_exit(0);
	ASSERT_EQ(0, waitid(P_PID, child, &info, WEXITED | WNOWAIT));

	EXPECT_EQ(-EBADF, kcmp_tfd_of(child, self->target, getpid(), self->efd,
				      self->target, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd_of(getpid(), self->target, child, self->efd,
				      self->target, 0));
	waitpid(child, NULL, 0);
	EXPECT_EQ(-ESRCH, kcmp_tfd_of(getpid(), self->target, child, self->efd,
				      self->target, 0));
}

/* --- Added through io_uring --------------------------------------------- */

struct uring {
	int fd;
	unsigned int *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static int uring_setup(struct uring *ring)
{
	struct io_uring_params params = {};
	size_t size;
	char *map;

	ring->fd = syscall(__NR_io_uring_setup, 1, &params);
	if (ring->fd < 0 || !(params.features & IORING_FEAT_SINGLE_MMAP))
		return -1;

	size = params.cq_off.cqes + params.cq_entries * sizeof(*ring->cqes);
	if (size < params.sq_off.array + params.sq_entries * sizeof(int))
		size = params.sq_off.array + params.sq_entries * sizeof(int);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
		   IORING_OFF_SQ_RING);
	ring->sqes = mmap(NULL, params.sq_entries * sizeof(*ring->sqes),
			  PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
			  IORING_OFF_SQES);
	if (map == MAP_FAILED || ring->sqes == MAP_FAILED)
		return -1;

	ring->sq_tail = (unsigned int *)(map + params.sq_off.tail);
	ring->sq_mask = (unsigned int *)(map + params.sq_off.ring_mask);
	ring->sq_array = (unsigned int *)(map + params.sq_off.array);
	ring->cq_head = (unsigned int *)(map + params.cq_off.head);
	ring->cq_mask = (unsigned int *)(map + params.cq_off.ring_mask);
	ring->cqes = (struct io_uring_cqe *)(map + params.cq_off.cqes);
	return 0;
}

/* Do one epoll_ctl() by the ring. Return its result. */
static int uring_epoll_ctl(struct uring *ring, int efd, int op, int fd,
			   struct epoll_event *ev)
{
	unsigned int slot = *ring->sq_tail & *ring->sq_mask;
	int ret;

	ring->sqes[slot] = (struct io_uring_sqe) {
		.opcode = IORING_OP_EPOLL_CTL,
		.fd = efd,
		.addr = (unsigned long)ev,
		.len = op,
		.off = fd,
	};
	ring->sq_array[slot] = slot;
	__atomic_store_n(ring->sq_tail, *ring->sq_tail + 1, __ATOMIC_RELEASE);
	if (syscall(__NR_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS,
		    NULL, 0) != 1)
		return -errno;

	ret = ring->cqes[*ring->cq_head & *ring->cq_mask].res;
	__atomic_store_n(ring->cq_head, *ring->cq_head + 1, __ATOMIC_RELEASE);
	return ret;
}

TEST_F(epoll, io_uring)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct uring ring;
	int ret;

	if (uring_setup(&ring))
		SKIP(return, "no io_uring: %s", strerror(errno));
	ASSERT_EQ(NUMBER, dup2(self->other, NUMBER));
	ret = uring_epoll_ctl(&ring, self->efd, EPOLL_CTL_ADD, NUMBER, &ev);
	if (ret == -EINVAL || ret == -EOPNOTSUPP)
		SKIP(return, "io_uring has no IORING_OP_EPOLL_CTL");
	ASSERT_EQ(0, ret);
	EXPECT_EQ(0, kcmp_tfd(self->other, self->efd, NUMBER, 0));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->other, self->efd, NUMBER, 1));

	ASSERT_EQ(0, uring_epoll_ctl(&ring, self->efd, EPOLL_CTL_MOD, NUMBER,
				     &ev));
	EXPECT_EQ(0, kcmp_tfd(self->other, self->efd, NUMBER, 0));
	ASSERT_EQ(0, uring_epoll_ctl(&ring, self->efd, EPOLL_CTL_DEL, NUMBER,
				     NULL));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->other, self->efd, NUMBER, 0));

	/* The ring is a file as well, and can be a target. */
	ASSERT_EQ(0, epoll_add(self->efd, ring.fd, 0));
	EXPECT_EQ(0, kcmp_tfd(ring.fd, self->efd, ring.fd, 0));
}

/* --- Errors, each alone -------------------------------------------------- */

/* A pid that is free: that of a child that was waited for. */
static pid_t free_pid(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return pid;
}

/* Which error tells what the kernel was built without. */
TEST(not_built)
{
	int no_such_call = syscall(-1) < 0 ? -errno : 0;
	int expected = !kcmp_is_built() ? no_such_call :
		       !epoll_is_built() ? -EOPNOTSUPP : -EFAULT;

	EXPECT_EQ(expected, kcmp_slot(getpid(), getpid(), 0, NULL));
}

TEST_F(epoll, esrch)
{
	static const pid_t none[] = { 0, -1, INT_MIN, INT_MAX };
	pid_t pid = free_pid();

	ASSERT_LT(0, pid);
	EXPECT_EQ(-ESRCH, kcmp_tfd_of(pid, self->target, getpid(), self->efd,
				      self->target, 0));
	EXPECT_EQ(-ESRCH, kcmp_tfd_of(getpid(), self->target, pid, self->efd,
				      self->target, 0));
	for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
		EXPECT_EQ(-ESRCH, kcmp_tfd_of(none[i], self->target, getpid(),
					      self->efd, self->target, 0));
		EXPECT_EQ(-ESRCH, kcmp_tfd_of(getpid(), self->target, none[i],
					      self->efd, self->target, 0));
	}
}

TEST_F(epoll, ebadf)
{
	EXPECT_EQ(-EBADF, kcmp_tfd(NOT_OPEN, self->efd, self->target, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd(-1, self->efd, self->target, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd(self->target, NOT_OPEN, self->target, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd(self->target, -1, self->target, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd(self->target, INT_MIN, self->target, 0));
}

TEST_F(epoll, einval)
{
	EXPECT_EQ(-EINVAL, kcmp_tfd(self->target, self->target, self->target, 0));
	EXPECT_EQ(-EINVAL, kcmp_tfd(self->target, self->other, NOT_OPEN, 9));
}

TEST_F(epoll, enoent)
{
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->other, self->efd, self->other, 0));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->target, self->efd, self->target, 1));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->target, self->efd, self->target,
				    UINT_MAX));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->target, self->efd, -1, 0));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->target, self->efd, 0x80000000, 0));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->target, self->efd, INT_MAX, 0));
	EXPECT_EQ(-ENOENT, kcmp_tfd(self->target, self->efd,
				    self->target - 1, 0));
}

/* Map two pages, the second of which is gone. Return where it would begin. */
static char *end_of_mapping(int prot)
{
	long page = sysconf(_SC_PAGESIZE);
	char *map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED || munmap(map + page, page))
		return NULL;
	return mprotect(map, page, prot) ? NULL : map + page;
}

TEST_F(epoll, efault)
{
	char *end = end_of_mapping(PROT_READ | PROT_WRITE);
	char *none = end_of_mapping(PROT_NONE);
	pid_t me = getpid();

	ASSERT_NE(NULL, end);
	ASSERT_NE(NULL, none);
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->target, NULL));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->target, (void *)4));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->target, end));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->target, none - 64));

	/* A part of the slot can be read. */
	memset(end - sizeof(struct kcmp_epoll_slot), 0,
	       sizeof(struct kcmp_epoll_slot));
	for (size_t i = 1; i < sizeof(struct kcmp_epoll_slot); i++)
		EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->target, end - i));
	EXPECT_NE(-EFAULT, kcmp_slot(me, me, self->target,
				     end - sizeof(struct kcmp_epoll_slot)));

	/* Addresses of the kernel, not canonical ones, and around zero. */
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->target,
				     (void *)(LONG_MIN | 4096)));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->target, (void *)LONG_MIN));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->target,
				     (void *)(LONG_MAX / 2)));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->target, (void *)-4096L));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->target, (void *)-4L));
}

/* Where a slot may be: at any address, in memory that can only be read. */
TEST_F(epoll, slot_at_any_readable_address)
{
	char *end = end_of_mapping(PROT_READ | PROT_WRITE);
	const struct kcmp_epoll_slot slot = {
		.efd = self->efd, .tfd = self->target,
	};
	long page = sysconf(_SC_PAGESIZE);
	pid_t me = getpid();

	ASSERT_NE(NULL, end);
	for (size_t i = 0; i < 8; i++) {
		char *addr = end - sizeof(slot) - i;

		memcpy(addr, &slot, sizeof(slot));
		EXPECT_EQ(0, kcmp_slot(me, me, self->target, addr));
	}
	memcpy(end - sizeof(slot), &slot, sizeof(slot));
	ASSERT_EQ(0, mprotect(end - page, page, PROT_READ));
	EXPECT_EQ(0, kcmp_slot(me, me, self->target, end - sizeof(slot)));
}

TEST_F(epoll, slot_is_left_unchanged)
{
	static const int expect[] = { 0, -ENOENT, -EINVAL, -EBADF };
	const struct kcmp_epoll_slot slots[] = {
		{ .efd = self->efd, .tfd = self->target },
		{ .efd = self->efd, .tfd = self->target, .toff = 7 },
		{ .efd = self->other, .tfd = self->target, .toff = 7 },
		{ .efd = NOT_OPEN, .tfd = self->target, .toff = 7 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
		struct {
			char before[64];
			struct kcmp_epoll_slot slot;
			char after[64];
		} mem, copy;

		memset(&mem, 0xa5, sizeof(mem));
		mem.slot = slots[i];
		copy = mem;
		EXPECT_EQ(expect[i], kcmp_slot(getpid(), getpid(), self->target,
					       &mem.slot));
		EXPECT_EQ(0, memcmp(&mem, &copy, sizeof(mem)));
	}
}

/* --- Permissions --------------------------------------------------------- */

/*
 * Become nobody, for the rest of the process; dumpable again, so that only the
 * other side decides. Needs root.
 */
static int become_nobody(void)
{
	if (setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		return -1;
	return prctl(PR_SET_DUMPABLE, 1);
}

TEST_F(epoll, eperm_for_unprivileged)
{
	pid_t root, me = getpid();

	if (getuid() != 0)
		SKIP(return, "needs root");
	root = fork_sleeper();
	ASSERT_LT(0, root);
	ASSERT_EQ(0, become_nobody());

	EXPECT_EQ(0, kcmp_tfd(self->target, self->efd, self->target, 0));
	EXPECT_EQ(-EPERM, kcmp_tfd_of(root, self->target, me, self->efd,
				      self->target, 0));
	EXPECT_EQ(-EPERM, kcmp_tfd_of(me, self->target, root, self->efd,
				      self->target, 0));
	EXPECT_EQ(-EPERM, kcmp_tfd_of(root, self->target, root, self->efd,
				      self->target, 0));
}

TEST_F(epoll, eperm_for_not_dumpable)
{
	int ready[2], lifeline[2];
	pid_t child, me = getpid();
	char byte;

	if (getuid() != 0)
		SKIP(return, "needs root");
	ASSERT_EQ(0, become_nobody());
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(lifeline));
	child = fork();
	ASSERT_LE(0, child);
	if (child == 0) {
		prctl(PR_SET_DUMPABLE, 0);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		sleep_while_alive(lifeline);
	}
	ASSERT_EQ(1, read(ready[0], &byte, 1));

	EXPECT_EQ(-EPERM, kcmp_tfd_of(child, self->target, me, self->efd,
				      self->target, 0));
	EXPECT_EQ(-EPERM, kcmp_tfd_of(me, self->target, child, self->efd,
				      self->target, 0));
	kill_and_reap(child);
}

/* --- Errors, in pairs: which one comes first ----------------------------- */

TEST_F(epoll, esrch_before_all)
{
	pid_t none = free_pid(), me = getpid(), root;

	if (getuid() != 0)
		SKIP(return, "needs root");
	ASSERT_LT(0, none);
	root = fork_sleeper();
	ASSERT_LT(0, root);
	ASSERT_EQ(0, become_nobody());

	/* EPERM */
	EXPECT_EQ(-ESRCH, kcmp_tfd_of(root, self->target, none, self->efd,
				      self->target, 0));
	EXPECT_EQ(-ESRCH, kcmp_tfd_of(none, self->target, root, self->efd,
				      self->target, 0));
	/* EINVAL of the type */
	EXPECT_EQ(-ESRCH, kcmp(none, me, KCMP_TYPES, 0, 0));
	/* EFAULT, EBADF, EBADF, EINVAL, ENOENT */
	EXPECT_EQ(-ESRCH, kcmp_slot(none, me, self->target, NULL));
	EXPECT_EQ(-ESRCH, kcmp_tfd_of(none, NOT_OPEN, me, self->efd,
				      self->target, 0));
	EXPECT_EQ(-ESRCH, kcmp_tfd_of(none, self->target, me, NOT_OPEN,
				      self->target, 0));
	EXPECT_EQ(-ESRCH, kcmp_tfd_of(none, self->target, me, self->other,
				      self->target, 0));
	EXPECT_EQ(-ESRCH, kcmp_tfd_of(none, self->target, me, self->efd,
				      NOT_OPEN, 0));
}

TEST_F(epoll, eperm_before_what_follows)
{
	pid_t root, me = getpid();

	if (getuid() != 0)
		SKIP(return, "needs root");
	root = fork_sleeper();
	ASSERT_LT(0, root);
	ASSERT_EQ(0, become_nobody());

	/* EINVAL of the type */
	EXPECT_EQ(-EPERM, kcmp(root, me, KCMP_TYPES, 0, 0));
	/* EFAULT, EBADF, EBADF, EINVAL, ENOENT */
	EXPECT_EQ(-EPERM, kcmp_slot(root, me, self->target, NULL));
	EXPECT_EQ(-EPERM, kcmp_slot(me, root, self->target, NULL));
	EXPECT_EQ(-EPERM, kcmp_tfd_of(root, NOT_OPEN, me, self->efd,
				      self->target, 0));
	EXPECT_EQ(-EPERM, kcmp_tfd_of(me, self->target, root, NOT_OPEN,
				      self->target, 0));
	EXPECT_EQ(-EPERM, kcmp_tfd_of(me, self->target, root, self->other,
				      self->target, 0));
	EXPECT_EQ(-EPERM, kcmp_tfd_of(me, self->target, root, self->efd,
				      NOT_OPEN, 0));
}

TEST_F(epoll, efault_before_what_follows)
{
	pid_t me = getpid();

	/* EBADF of the file; what follows depends on the slot. */
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, NOT_OPEN, NULL));
}

TEST_F(epoll, ebadf_of_file_before_what_follows)
{
	/*
	 * EBADF of the epoll file looks the same, EINVAL, ENOENT of the number,
	 * ENOENT of the offset.
	 */
	EXPECT_EQ(-EBADF, kcmp_tfd(NOT_OPEN, NOT_OPEN, self->target, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd(NOT_OPEN, self->other, self->target, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd(NOT_OPEN, self->efd, self->other, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd(NOT_OPEN, self->efd, self->target, 1));
}

TEST_F(epoll, ebadf_of_epoll_file_before_what_follows)
{
	/* A number, an offset that no set has. */
	EXPECT_EQ(-EBADF, kcmp_tfd(self->target, NOT_OPEN, NOT_OPEN, 0));
	EXPECT_EQ(-EBADF, kcmp_tfd(self->target, NOT_OPEN, self->target, 1));
}

TEST_F(epoll, einval_before_enoent)
{
	EXPECT_EQ(-EINVAL, kcmp_tfd(self->target, self->other, NOT_OPEN, 0));
	EXPECT_EQ(-EINVAL, kcmp_tfd(self->target, self->other, self->target, 1));
}

/* --- A large set --------------------------------------------------------- */

#define MANY	10000

/* Above whatever was open when the test began. */
#define FIRST	1000

/* Kernels that check all that they do need minutes. */
TEST_F_TIMEOUT(epoll, ten_thousand_targets, 600)
{
	const int first = FIRST, last = FIRST + MANY - 1;
	struct rlimit limit = { .rlim_cur = last + 2, .rlim_max = last + 2 };
	int efd = self->efd;

	if (setrlimit(RLIMIT_NOFILE, &limit))
		SKIP(return, "cannot open %d files", MANY);

	/* In an order that is neither ascending nor descending. */
	for (int fd = first; fd <= last; fd++) {
		int low = eventfd(0, 0);

		ASSERT_LE(0, low);
		ASSERT_EQ(fd, dup2(low, fd));
		close(low);
	}
	for (int i = 0; i < MANY; i++)
		ASSERT_EQ(0, epoll_add(efd, first + (i * 7919L) % MANY, 0));

	for (int fd = first; fd <= last; fd++) {
		ASSERT_EQ(0, kcmp_tfd(fd, efd, fd, 0));
		ASSERT_EQ(-ENOENT, kcmp_tfd(fd, efd, fd, 1));
		ASSERT_LT(0, kcmp_tfd(fd == first ? last : first, efd, fd, 0));
	}
	EXPECT_EQ(-ENOENT, kcmp_tfd(first, efd, first - 1, 0));
	EXPECT_EQ(-ENOENT, kcmp_tfd(first, efd, last + 1, 0));

	/* Every other one is gone, the rest is still found. */
	for (int fd = first; fd <= last; fd += 2)
		ASSERT_EQ(0, close(fd));
	for (int fd = first; fd <= last; fd++) {
		bool open = (fd - first) % 2;

		ASSERT_EQ(open ? 0 : -ENOENT,
			  kcmp_tfd(open ? fd : last, efd, fd, 0));
	}
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], AFTER_EXEC))
		return after_exec(argv + 2);

	return test_harness_run(argc, argv);
}
