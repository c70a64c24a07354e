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
#include <fcntl.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <linux/kcmp.h>
#include <linux/types.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
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

/* The fd under which several files are added; closed when a test begins. */
#define TFD		500

/* An fd that is never open. */
#define NOT_OPEN	777

/* The first argument when the test "after_exec" executes this program. */
#define AFTER_EXEC	"--after-exec"

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

static int kcmp_file(int fd1, int fd2)
{
	return kcmp(getpid(), getpid(), KCMP_FILE, fd1, fd2);
}

static int epoll_add(int efd, int fd, __u64 data)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = data };

	return epoll_ctl(efd, EPOLL_CTL_ADD, fd, &ev);
}

/* Call epoll_ctl() for a file that is open at @tfd only for that call. */
static int epoll_ctl_at(int efd, int op, int fd, int tfd, __u64 data)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = data };
	int ret;

	if (dup2(fd, tfd) != tfd)
		return -1;
	ret = epoll_ctl(efd, op, tfd, &ev);
	return close(tfd) ? -1 : ret;
}

/*
 * Fork a child, and return once it has called @prepare. The child sleeps until
 * it is killed, or until this process has ended, which closes the other end of
 * the socket. (PR_SET_PDEATHSIG will not do: if this process has become nobody
 * by then, it may not signal a child of root.)
 */
static pid_t fork_child(void (*prepare)(const void *arg), const void *arg)
{
	int pair[2];
	char byte;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -1;
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		if (prepare)
			prepare(arg);
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

static FILE *open_fdinfo(int efd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", efd);
	return fopen(path, "r");
}

/*
 * Read the data of the entries of @tfd from fdinfo, in the order of the lines.
 * Return the number of these entries.
 */
static int fdinfo_data(int efd, int tfd, __u64 *data, int max)
{
	FILE *file = open_fdinfo(efd);
	char line[256];
	int count = 0;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		unsigned long long value;
		int fd;

		if (sscanf(line, "tfd: %d events: %*x data: %llx", &fd,
			   &value) != 2 || fd != tfd)
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
	int tfd;	/* a file that was added, at this fd */
	int other;	/* a file that was not added */
};

FIXTURE_SETUP(epoll)
{
	if (!kcmp_is_built() || !epoll_is_built())
		SKIP(return, "the kernel has no kcmp(2), or no epoll");

	self->efd = epoll_create1(0);
	ASSERT_LE(0, self->efd);
	self->tfd = eventfd(0, 0);
	ASSERT_LE(0, self->tfd);
	self->other = eventfd(0, 0);
	ASSERT_LE(0, self->other);
	ASSERT_EQ(0, epoll_add(self->efd, self->tfd, 0));
}

FIXTURE_TEARDOWN(epoll)
{
	close(self->efd);
	close(self->tfd);
	close(self->other);
}

/* --- Results ----------------------------------------------------------- */

TEST_F(epoll, equal_and_not)
{
	EXPECT_EQ(0, kcmp_entry(self->tfd, self->efd, self->tfd, 0));
	EXPECT_LT(0, kcmp_entry(self->other, self->efd, self->tfd, 0));
}

#define FILES	64

static int by_kcmp_file(const void *a, const void *b)
{
	static const int order[] = { 0, -1, 1 };

	return order[kcmp_file(*(const int *)a, *(const int *)b)];
}

/* All pairs of files: the result is that of KCMP_FILE, and fit for sorting. */
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
			int result = kcmp_entry(fds[i], efd, fds[j], 0);

			ASSERT_LE(0, result);
			ASSERT_GE(2, result);
			ASSERT_EQ(kcmp_file(fds[i], fds[j]), result);
			ASSERT_EQ(i == j, result == 0);
			seen[result]++;
		}
	}
	EXPECT_EQ(FILES, seen[0]);
	EXPECT_EQ(FILES * (FILES - 1) / 2, seen[1]);
	EXPECT_EQ(FILES * (FILES - 1) / 2, seen[2]);

	qsort(fds, FILES, sizeof(*fds), by_kcmp_file);
	for (int i = 0; i < FILES; i++) {
		for (int j = i + 1; j < FILES; j++) {
			ASSERT_EQ(1, kcmp_entry(fds[i], efd, fds[j], 0));
			ASSERT_EQ(2, kcmp_entry(fds[j], efd, fds[i], 0));
		}
	}
}

/* idx1 is used as an unsigned int, as by KCMP_FILE. */
TEST_F(epoll, idx1_is_32_bits)
{
#if ULONG_MAX > UINT_MAX
	const struct kcmp_epoll_slot slot = {
		.efd = self->efd, .tfd = self->tfd,
	};
	unsigned long idx = self->tfd | 1UL << 32;

	EXPECT_EQ(0, kcmp(getpid(), getpid(), KCMP_FILE, idx, self->tfd));
	EXPECT_EQ(0, kcmp_slot(getpid(), getpid(), idx, &slot));
#else
	SKIP(return, "unsigned long has 32 bits");
#endif
}

/* --- Entries that share an fd ------------------------------------------ */

#define SHARED	8

/*
 * Add SHARED files to the interest list, each at TFD and with its index as data.
 * Each stays open at the fd in fds[].
 */
static bool add_shared(int efd, int fds[SHARED])
{
	for (int i = 0; i < SHARED; i++) {
		fds[i] = eventfd(0, 0);
		if (fds[i] < 0 ||
		    epoll_ctl_at(efd, EPOLL_CTL_ADD, fds[i], TFD, i))
			return false;
	}
	return true;
}

/* Check that the entries of TFD are the files in fds[], in fdinfo's order. */
static void check_shared(struct __test_metadata *_metadata, int efd,
			 const int fds[], int count)
{
	__u64 data[SHARED + 1];

	ASSERT_EQ(count, fdinfo_data(efd, TFD, data, SHARED + 1));
	for (int toff = 0; toff < count; toff++) {
		int found = 0;

		for (int i = 0; i < SHARED; i++) {
			int result = fds[i] < 0 ? 1 :
				     kcmp_entry(fds[i], efd, TFD, toff);

			ASSERT_LE(0, result);
			if (result)
				continue;
			found++;
			EXPECT_EQ(data[toff], i);
		}
		EXPECT_EQ(1, found);
	}

	EXPECT_EQ(-ENOENT, kcmp_entry(efd, efd, TFD, count));
	EXPECT_EQ(-ENOENT, kcmp_entry(efd, efd, TFD, count + 1));
	EXPECT_EQ(-ENOENT, kcmp_entry(efd, efd, TFD, INT_MAX));
	EXPECT_EQ(-ENOENT, kcmp_entry(efd, efd, TFD, 1U << 31));
	EXPECT_EQ(-ENOENT, kcmp_entry(efd, efd, TFD, UINT_MAX));
}

TEST_F(epoll, shared_fd)
{
	int fds[SHARED];

	ASSERT_TRUE(add_shared(self->efd, fds));
	check_shared(_metadata, self->efd, fds, SHARED);
}

TEST_F(epoll, shared_fd_between_neighbours)
{
	int fds[SHARED];

	ASSERT_EQ(TFD - 1, dup2(self->other, TFD - 1));
	ASSERT_EQ(0, epoll_add(self->efd, TFD - 1, 0));
	ASSERT_TRUE(add_shared(self->efd, fds));
	ASSERT_EQ(TFD + 1, dup2(self->other, TFD + 1));
	ASSERT_EQ(0, epoll_add(self->efd, TFD + 1, 0));

	check_shared(_metadata, self->efd, fds, SHARED);
	EXPECT_EQ(0, kcmp_entry(self->other, self->efd, TFD - 1, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd, TFD - 1, 1));
	EXPECT_EQ(0, kcmp_entry(self->other, self->efd, TFD + 1, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd, TFD + 1, 1));
}

/* When a file is closed, toff of the entries behind it decreases. */
TEST_F(epoll, shared_fd_closed_one_by_one)
{
	int fds[SHARED];

	ASSERT_TRUE(add_shared(self->efd, fds));
	for (int i = 0; i < SHARED; i++) {
		/* Not in the order in which the files were added. */
		int victim = i * 3 % SHARED;

		close(fds[victim]);
		fds[victim] = -1;
		check_shared(_metadata, self->efd, fds, SHARED - 1 - i);
	}
}

/* EPOLL_CTL_* finds each entry, whatever else shares its fd. */
TEST_F(epoll, shared_fd_ctl)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fds[SHARED];

	ASSERT_TRUE(add_shared(self->efd, fds));
	for (int i = 0; i < SHARED; i++) {
		ASSERT_EQ(TFD, dup2(fds[i], TFD));

		EXPECT_EQ(-1, epoll_add(self->efd, TFD, 0));
		EXPECT_EQ(EEXIST, errno);
		ev.data.u64 = i;
		EXPECT_EQ(0, epoll_ctl(self->efd, EPOLL_CTL_MOD, TFD, &ev));
		EXPECT_EQ(-1, epoll_ctl(self->efd, EPOLL_CTL_MOD, fds[i], &ev));
		EXPECT_EQ(ENOENT, errno);
	}
	close(TFD);
	check_shared(_metadata, self->efd, fds, SHARED);

	for (int i = 0; i < SHARED; i++) {
		ASSERT_EQ(TFD, dup2(fds[i], TFD));
		EXPECT_EQ(0, epoll_ctl(self->efd, EPOLL_CTL_DEL, TFD, NULL));
		EXPECT_EQ(-1, epoll_ctl(self->efd, EPOLL_CTL_DEL, TFD, NULL));
		EXPECT_EQ(ENOENT, errno);
		close(fds[i]);
		fds[i] = -1;
		close(TFD);
		check_shared(_metadata, self->efd, fds, SHARED - 1 - i);
	}
}

/* Entries that share an fd each report their events. */
TEST_F(epoll, shared_fd_events)
{
	struct epoll_event events[SHARED + 1];
	unsigned int seen = 0;
	int fds[SHARED];

	ASSERT_TRUE(add_shared(self->efd, fds));
	for (int i = 0; i < SHARED; i++)
		ASSERT_EQ(0, eventfd_write(fds[i], 1));
	ASSERT_EQ(SHARED, epoll_wait(self->efd, events, SHARED + 1, 0));
	for (int i = 0; i < SHARED; i++)
		seen |= 1U << events[i].data.u64;
	EXPECT_EQ((1U << SHARED) - 1, seen);
}

TEST_F(epoll, one_file_at_several_fds)
{
	for (int fd = TFD; fd < TFD + SHARED; fd++)
		ASSERT_EQ(0, epoll_ctl_at(self->efd, EPOLL_CTL_ADD, self->other,
					  fd, 0));
	for (int fd = TFD; fd < TFD + SHARED; fd++) {
		EXPECT_EQ(0, kcmp_entry(self->other, self->efd, fd, 0));
		EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd, fd, 1));
	}
}

struct own_file {
	int efd;
	__u64 data;
};

static void add_own_file(const void *arg)
{
	const struct own_file *own = arg;

	if (dup2(eventfd(0, 0), TFD) != TFD ||
	    epoll_add(own->efd, TFD, own->data))
		_exit(1);
}

/* Parent and child share the list; each adds a file of its own at TFD. */
TEST_F(epoll, shared_fd_of_parent_and_child)
{
	const struct own_file in_parent = { self->efd, 0 };
	const struct own_file in_child = { self->efd, 1 };
	pid_t child, me = getpid();
	__u64 data[2];

	child = fork_child(add_own_file, &in_child);
	ASSERT_LT(0, child);
	add_own_file(&in_parent);

	ASSERT_EQ(2, fdinfo_data(self->efd, TFD, data, 2));
	for (int toff = 0; toff < 2; toff++) {
		pid_t owner = data[toff] ? child : me;

		EXPECT_EQ(0, kcmp_entry_of(owner, TFD, me, self->efd, TFD, toff));
		EXPECT_EQ(0, kcmp_entry_of(owner, TFD, child, self->efd, TFD,
					   toff));
		owner = data[toff] ? me : child;
		EXPECT_LT(0, kcmp_entry_of(owner, TFD, me, self->efd, TFD, toff));
	}

	/* EPOLL_CTL_DEL removes the entry of the file that the caller has at TFD. */
	EXPECT_EQ(0, epoll_ctl(self->efd, EPOLL_CTL_DEL, TFD, NULL));
	EXPECT_EQ(-1, epoll_ctl(self->efd, EPOLL_CTL_DEL, TFD, NULL));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(0, kcmp_entry_of(child, TFD, me, self->efd, TFD, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(TFD, self->efd, TFD, 1));

	kill_and_reap(child);
	EXPECT_EQ(-ENOENT, kcmp_entry(TFD, self->efd, TFD, 0));
}

/* --- Consecutive lookups ------------------------------------------------- */

/*
 * A kernel may start a lookup where the last one ended. Whatever changed in
 * between, each toff must refer to the entry that fdinfo lists there.
 */
#define POOL	16

struct pool {
	int efd, other;
	int fds[POOL];		/* in the order in which they are listed at TFD */
	bool added[POOL];
};

FIXTURE(lookups)
{
	struct pool pool;
};

FIXTURE_SETUP(lookups)
{
	struct pool *pool = &self->pool;
	int fds[POOL];
	__u64 data[POOL];

	if (!kcmp_is_built() || !epoll_is_built())
		SKIP(return, "the kernel has no kcmp(2), or no epoll");

	pool->efd = epoll_create1(0);
	ASSERT_LE(0, pool->efd);
	pool->other = eventfd(0, 0);
	ASSERT_LE(0, pool->other);
	for (int i = 0; i < POOL; i++) {
		fds[i] = eventfd(0, 0);
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(0, epoll_ctl_at(pool->efd, EPOLL_CTL_ADD, fds[i], TFD,
					  i));
	}

	/* Files keep their order when they are removed and added again. */
	ASSERT_EQ(POOL, fdinfo_data(pool->efd, TFD, data, POOL));
	for (int i = 0; i < POOL; i++) {
		pool->fds[i] = fds[data[i]];
		pool->added[i] = true;
	}
}

FIXTURE_TEARDOWN(lookups)
{
}

static void add_or_remove(struct __test_metadata *_metadata,
			  struct pool *pool, int i)
{
	int op = pool->added[i] ? EPOLL_CTL_DEL : EPOLL_CTL_ADD;

	ASSERT_EQ(0, epoll_ctl_at(pool->efd, op, pool->fds[i], TFD, 0));
	pool->added[i] = !pool->added[i];
}

static void remove_every_other(struct __test_metadata *_metadata,
			       struct pool *pool)
{
	for (int i = 0; i < POOL; i += 2)
		add_or_remove(_metadata, pool, i);
}

/* Look up each toff from @first to @last, three times. */
static void check_lookups(struct __test_metadata *_metadata,
			  struct pool *pool, int first, int last)
{
	int toff = 0;

	for (int i = 0; i < POOL && toff <= last; i++) {
		if (!pool->added[i])
			continue;
		if (toff >= first) {
			ASSERT_EQ(0, kcmp_entry(pool->fds[i], pool->efd, TFD,
						toff));
			ASSERT_LT(0, kcmp_entry(pool->other, pool->efd, TFD,
						toff));
			ASSERT_EQ(0, kcmp_entry(pool->fds[i], pool->efd, TFD,
						toff));
		}
		toff++;
	}
	if (toff <= last) {
		ASSERT_EQ(-ENOENT, kcmp_entry(pool->other, pool->efd, TFD, toff));
		ASSERT_EQ(-ENOENT, kcmp_entry(pool->other, pool->efd, TFD, last));
	}
}

TEST_F(lookups, in_any_order)
{
	struct pool *pool = &self->pool;

	check_lookups(_metadata, pool, 0, POOL);
	check_lookups(_metadata, pool, 0, POOL);
	for (int toff = POOL; toff >= 0; toff--)
		check_lookups(_metadata, pool, toff, toff);
	for (int i = 0; i < POOL; i++)
		check_lookups(_metadata, pool, i * 7 % POOL, i * 7 % POOL);
}

/* Add or remove an entry before, at or after the last lookup, then go on. */
TEST_F(lookups, ctl_in_between)
{
	struct pool *pool = &self->pool;

	remove_every_other(_metadata, pool);
	for (int toff = 0; toff < POOL / 2; toff++) {
		for (int i = 0; i < POOL; i++) {
			for (int next = toff; next <= toff + 1; next++) {
				check_lookups(_metadata, pool, 0, toff);
				add_or_remove(_metadata, pool, i);
				check_lookups(_metadata, pool, next, POOL);
				check_lookups(_metadata, pool, toff, toff);
				add_or_remove(_metadata, pool, i);
				check_lookups(_metadata, pool, next, POOL);
			}
		}
	}
}

/* Close a file at, after or before the last lookup, then go on. */
TEST_F(lookups, close_in_between)
{
	static const struct {
		int toff, closed;
	} steps[] = {
		{ 8, 8 }, { 7, 9 }, { 8, 7 },		/* there, next, previous */
		{ 0, 0 }, { 11, 15 }, { 11, 14 },	/* first, last, after last */
		{ 0, 13 }, { 9, 1 },			/* far off */
	};
	struct pool *pool = &self->pool;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		check_lookups(_metadata, pool, 0, steps[i].toff);
		close(pool->fds[steps[i].closed]);
		pool->added[steps[i].closed] = false;
		check_lookups(_metadata, pool, steps[i].toff, POOL);
		check_lookups(_metadata, pool, 0, POOL);
	}
}

/* Add and remove entries of other fds, then go on. */
TEST_F(lookups, other_fds_in_between)
{
	struct pool *pool = &self->pool;

	for (int toff = 0; toff < POOL; toff++) {
		for (int tfd = TFD - 1; tfd <= TFD + 1; tfd += 2) {
			check_lookups(_metadata, pool, 0, toff);
			ASSERT_EQ(0, epoll_ctl_at(pool->efd, EPOLL_CTL_ADD,
						  pool->fds[toff], tfd, 0));
			check_lookups(_metadata, pool, toff, POOL);
			check_lookups(_metadata, pool, toff, toff);
			ASSERT_EQ(0, kcmp_entry(pool->fds[toff], pool->efd, tfd,
						0));
			ASSERT_EQ(-ENOENT, kcmp_entry(pool->fds[toff], pool->efd,
						      tfd, 1));
			check_lookups(_metadata, pool, toff, toff);
			ASSERT_EQ(0, epoll_ctl_at(pool->efd, EPOLL_CTL_DEL,
						  pool->fds[toff], tfd, 0));
			check_lookups(_metadata, pool, toff, POOL);
		}
	}
}

/* Replace the epoll file at the same fd. */
TEST_F(lookups, epoll_file_replaced)
{
	struct pool *pool = &self->pool;
	int efd;

	for (int toff = 0; toff < POOL; toff++) {
		check_lookups(_metadata, pool, 0, toff);
		close(pool->efd);
		efd = epoll_create1(0);
		ASSERT_EQ(pool->efd, efd);
		for (int i = 0; i < POOL; i++) {
			pool->added[i] = false;
			if ((i + toff) % 2)
				add_or_remove(_metadata, pool, i);
		}
		check_lookups(_metadata, pool, toff, POOL);
		check_lookups(_metadata, pool, 0, POOL);
		for (int i = 0; i < POOL; i++)
			if (!pool->added[i])
				add_or_remove(_metadata, pool, i);
	}
}

/* Look up all entries of @tfd in order, many times. */
static bool look_up_in_order(const struct pool *pool, int tfd)
{
	for (int i = 0; i < 200 * POOL; i++)
		if (kcmp_entry(pool->fds[i % POOL], pool->efd, tfd, i % POOL))
			return false;
	return true;
}

/* Look up two fds of one list, in turn and by two processes at once. */
TEST_F(lookups, two_callers)
{
	struct pool *pool = &self->pool;
	pid_t child;
	int status;

	for (int i = 0; i < POOL; i++)
		ASSERT_EQ(0, epoll_ctl_at(pool->efd, EPOLL_CTL_ADD, pool->fds[i],
					  TFD + 1, 0));
	for (int i = 0; i < POOL; i++) {
		EXPECT_EQ(0, kcmp_entry(pool->fds[i], pool->efd, TFD, i));
		EXPECT_EQ(0, kcmp_entry(pool->fds[i], pool->efd, TFD + 1, i));
	}

	child = fork();
	ASSERT_LE(0, child);
	if (child == 0)
		_exit(!look_up_in_order(pool, TFD + 1));
	EXPECT_TRUE(look_up_in_order(pool, TFD));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

/* --- Where the target file is open -------------------------------------- */

TEST_F(epoll, open_as_dup)
{
	int tfd = self->tfd;
	int dupped = dup(tfd);

	ASSERT_LE(0, dupped);
	close(tfd);
	EXPECT_EQ(0, kcmp_entry(dupped, self->efd, tfd, 0));

	/* The fd is reused, by a file that is not added. */
	ASSERT_EQ(tfd, dup2(self->other, tfd));
	EXPECT_EQ(0, kcmp_entry(dupped, self->efd, tfd, 0));
	EXPECT_LT(0, kcmp_entry(tfd, self->efd, tfd, 0));
}

TEST_F(epoll, open_in_child)
{
	int tfd = self->tfd;
	pid_t child = fork_child(NULL, NULL);

	ASSERT_LT(0, child);
	close(tfd);
	EXPECT_EQ(-EBADF, kcmp_entry(tfd, self->efd, tfd, 0));
	EXPECT_EQ(0, kcmp_entry_of(child, tfd, getpid(), self->efd, tfd, 0));

	kill_and_reap(child);
	EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd, tfd, 0));
}

TEST_F(epoll, open_in_unix_socket)
{
	int tfd = self->tfd, received, pair[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ASSERT_EQ(0, send_fd(pair[0], tfd));
	close(tfd);

	/* In flight: the entry remains, but no process has the file open. */
	EXPECT_LT(0, kcmp_entry(self->other, self->efd, tfd, 0));

	ASSERT_EQ(tfd, dup2(self->other, tfd));
	received = receive_fd(pair[1]);
	ASSERT_LE(0, received);
	EXPECT_EQ(0, kcmp_entry(received, self->efd, tfd, 0));
	EXPECT_LT(0, kcmp_entry(tfd, self->efd, tfd, 0));
}

TEST_F(epoll, dropped_in_unix_socket)
{
	int tfd = self->tfd, pair[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ASSERT_EQ(0, send_fd(pair[0], tfd));
	close(tfd);
	close(pair[0]);
	EXPECT_LT(0, kcmp_entry(self->other, self->efd, tfd, 0));
	close(pair[1]);
	EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd, tfd, 0));
}

TEST_F(epoll, last_reference_closed)
{
	int tfd = self->tfd;

	close(tfd);
	EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd, tfd, 0));

	/* Opening another file at the same fd does not add it. */
	ASSERT_EQ(tfd, dup2(self->other, tfd));
	EXPECT_EQ(-ENOENT, kcmp_entry(tfd, self->efd, tfd, 0));
}

/* --- epoll_ctl(2) ------------------------------------------------------- */

TEST_F(epoll, ctl_del)
{
	ASSERT_EQ(0, epoll_ctl(self->efd, EPOLL_CTL_DEL, self->tfd, NULL));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->tfd, self->efd, self->tfd, 0));

	ASSERT_EQ(0, epoll_add(self->efd, self->tfd, 0));
	EXPECT_EQ(0, kcmp_entry(self->tfd, self->efd, self->tfd, 0));
}

TEST_F(epoll, ctl_mod)
{
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLET };

	ASSERT_EQ(0, epoll_ctl(self->efd, EPOLL_CTL_MOD, self->tfd, &ev));
	EXPECT_EQ(0, kcmp_entry(self->tfd, self->efd, self->tfd, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->tfd, self->efd, self->tfd, 1));
}

/* An entry is found whatever its events are, and even if it is disarmed. */
TEST_F(epoll, ctl_events)
{
	struct epoll_event evs[] = {
		{ .events = 0 },
		{ .events = EPOLLIN | EPOLLONESHOT },
		{ .events = EPOLLIN | EPOLLEXCLUSIVE },
	};
	struct epoll_event ready[4];

	for (size_t i = 0; i < ARRAY_SIZE(evs); i++) {
		ASSERT_EQ(TFD + i, dup2(eventfd(1, 0), TFD + i));
		ASSERT_EQ(0, epoll_ctl(self->efd, EPOLL_CTL_ADD, TFD + i,
				       &evs[i]));
	}
	/* EPOLLONESHOT fires once. */
	EXPECT_EQ(2, epoll_wait(self->efd, ready, 4, 0));
	EXPECT_EQ(1, epoll_wait(self->efd, ready, 4, 0));

	/* Neither a MOD to EPOLLEXCLUSIVE nor one of such an entry is allowed. */
	for (size_t i = 0; i < ARRAY_SIZE(evs); i++) {
		EXPECT_EQ(-1, epoll_ctl(self->efd, EPOLL_CTL_MOD, TFD + i,
					&evs[2]));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(0, kcmp_entry(TFD + i, self->efd, TFD + i, 0));
		EXPECT_EQ(-ENOENT, kcmp_entry(TFD + i, self->efd, TFD + i, 1));
	}
}

/* An O_PATH file cannot be added, and is not accepted as an epoll file. */
TEST_F(epoll, o_path)
{
	char path[64];
	int fd, efd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->tfd);
	fd = open(path, O_PATH);
	ASSERT_LE(0, fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->efd);
	efd = open(path, O_PATH);
	ASSERT_LE(0, efd);

	EXPECT_EQ(-1, epoll_add(self->efd, fd, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-ENOENT, kcmp_entry(fd, self->efd, fd, 0));
	EXPECT_LT(0, kcmp_entry(fd, self->efd, self->tfd, 0));
	EXPECT_EQ(-1, epoll_add(efd, self->tfd, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-EINVAL, kcmp_entry(self->tfd, efd, self->tfd, 0));
}

/* A file that cannot be polled. */
TEST_F(epoll, regular_file)
{
	int fd = open("/proc/self/exe", O_RDONLY);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, epoll_add(self->efd, fd, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-ENOENT, kcmp_entry(fd, self->efd, fd, 0));
	EXPECT_LT(0, kcmp_entry(fd, self->efd, self->tfd, 0));
}

TEST_F(epoll, empty_list)
{
	int efd = epoll_create1(0);

	ASSERT_LE(0, efd);
	EXPECT_EQ(-ENOENT, kcmp_entry(self->other, efd, self->tfd, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->other, efd, 0, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->other, efd, -1, -1));
}

/* --- epoll files that are added to each other --------------------------- */

TEST_F(epoll, nested)
{
	int outer = epoll_create1(0);

	ASSERT_LE(0, outer);
	ASSERT_EQ(0, epoll_add(outer, self->efd, 0));
	ASSERT_EQ(0, epoll_add(outer, self->tfd, 0));

	EXPECT_EQ(0, kcmp_entry(self->efd, outer, self->efd, 0));
	EXPECT_LT(0, kcmp_entry(outer, outer, self->efd, 0));
	EXPECT_EQ(0, kcmp_entry(self->tfd, outer, self->tfd, 0));
	EXPECT_EQ(0, kcmp_entry(self->tfd, self->efd, self->tfd, 0));

	/* idx1 and efd may be the same epoll file. */
	EXPECT_LT(0, kcmp_entry(self->efd, self->efd, self->tfd, 0));
}

/* Check that @fd was not added to @efd. */
static void check_refused(struct __test_metadata *_metadata, int efd, int fd)
{
	EXPECT_EQ(-ENOENT, kcmp_entry(fd, efd, fd, 0));
	EXPECT_EQ(0, fdinfo_data(efd, fd, NULL, 0));
}

TEST_F(epoll, nested_in_a_cycle)
{
	int outer = epoll_create1(0);

	ASSERT_LE(0, outer);
	ASSERT_EQ(0, epoll_add(outer, self->efd, 0));

	EXPECT_EQ(-1, epoll_add(self->efd, outer, 0));
	EXPECT_EQ(ELOOP, errno);
	check_refused(_metadata, self->efd, outer);
	EXPECT_EQ(-1, epoll_add(self->efd, self->efd, 0));
	EXPECT_EQ(EINVAL, errno);
	check_refused(_metadata, self->efd, self->efd);
}

TEST_F(epoll, nested_too_deep)
{
	int inner, outer = self->efd;

	for (int depth = 0; ; depth++) {
		ASSERT_GT(10, depth);
		inner = outer;
		outer = epoll_create1(0);
		ASSERT_LE(0, outer);
		if (epoll_add(outer, inner, 0))
			break;
		EXPECT_EQ(0, kcmp_entry(inner, outer, inner, 0));
	}
	EXPECT_TRUE(errno == ELOOP || errno == EINVAL);
	check_refused(_metadata, outer, inner);
}

/* The number of epoll files that the kernel lets one epoll file be added to. */
#define OUTER	500

TEST_F(epoll, nested_too_often)
{
	struct rlimit limit = { .rlim_cur = 2 * OUTER, .rlim_max = 2 * OUTER };
	int outer[OUTER + 1];

	if (setrlimit(RLIMIT_NOFILE, &limit))
		SKIP(return, "cannot open %d files", 2 * OUTER);
	for (int i = 0; i < OUTER; i++) {
		outer[i] = epoll_create1(0);
		ASSERT_LE(0, outer[i]);
		ASSERT_EQ(0, epoll_add(outer[i], self->efd, 0));
	}
	outer[OUTER] = epoll_create1(0);
	ASSERT_LE(0, outer[OUTER]);
	EXPECT_EQ(-1, epoll_add(outer[OUTER], self->efd, 0));
	EXPECT_EQ(EINVAL, errno);
	check_refused(_metadata, outer[OUTER], self->efd);

	ASSERT_EQ(0, epoll_ctl(outer[0], EPOLL_CTL_DEL, self->efd, NULL));
	ASSERT_EQ(0, epoll_add(outer[OUTER], self->efd, 0));
	for (int i = 0; i <= OUTER; i++)
		ASSERT_EQ(i ? 0 : -ENOENT,
			  kcmp_entry(self->efd, outer[i], self->efd, 0));
}

/* --- Where the epoll file is open --------------------------------------- */

TEST_F(epoll, epoll_file_duplicated)
{
	int dupped = dup(self->efd);

	ASSERT_LE(0, dupped);
	EXPECT_EQ(0, kcmp_entry(self->tfd, dupped, self->tfd, 0));
	close(self->efd);
	EXPECT_EQ(0, kcmp_entry(self->tfd, dupped, self->tfd, 0));
	EXPECT_EQ(-EBADF, kcmp_entry(self->tfd, self->efd, self->tfd, 0));
}

TEST_F(epoll, epoll_file_in_child)
{
	pid_t child = fork_child(NULL, NULL);

	ASSERT_LT(0, child);
	close(self->efd);
	EXPECT_EQ(0, kcmp_entry_of(getpid(), self->tfd, child, self->efd,
				   self->tfd, 0));
	EXPECT_EQ(-EBADF, kcmp_entry(self->tfd, self->efd, self->tfd, 0));
	kill_and_reap(child);
}

static void move_to_tfd(const void *arg)
{
	FIXTURE_DATA(epoll) const *self = arg;

	dup2(self->tfd, TFD);
	close(self->tfd);
	close(self->efd);
}

/* The caller, a process with the target file, and one with the epoll file. */
TEST_F(epoll, three_processes)
{
	pid_t has_file = fork_child(move_to_tfd, self);
	pid_t has_epoll = fork_child(NULL, NULL);

	ASSERT_LT(0, has_file);
	ASSERT_LT(0, has_epoll);
	close(self->efd);
	close(self->tfd);

	EXPECT_EQ(0, kcmp_entry_of(has_file, TFD, has_epoll, self->efd,
				   self->tfd, 0));
	EXPECT_EQ(-EBADF, kcmp_entry_of(has_file, self->tfd, has_epoll,
					self->efd, self->tfd, 0));
	EXPECT_EQ(-EBADF, kcmp_entry_of(has_file, TFD, has_file, self->efd,
					self->tfd, 0));
	EXPECT_EQ(0, kcmp_entry_of(has_epoll, self->tfd, has_epoll, self->efd,
				   self->tfd, 0));
	kill_and_reap(has_file);
	kill_and_reap(has_epoll);
}

struct thread {
	int pipefd[2];		/* for its tid */
	int closes;		/* fd to close in a table of its own, or -1 */
};

static void *thread_body(void *arg)
{
	const struct thread *thread = arg;
	pid_t tid = syscall(__NR_gettid);

	if (thread->closes >= 0 &&
	    (unshare(CLONE_FILES) || close(thread->closes)))
		tid = -1;
	if (write(thread->pipefd[1], &tid, sizeof(tid)) == sizeof(tid))
		pause();
	return NULL;
}

static void check_thread(struct __test_metadata *_metadata, int efd, int tfd,
			 bool shares_files)
{
	struct thread thread = { .closes = shares_files ? -1 : tfd };
	int expected = shares_files ? 0 : -EBADF;
	pthread_t id;
	pid_t tid;

	ASSERT_EQ(0, pipe(thread.pipefd));
	ASSERT_EQ(0, pthread_create(&id, NULL, thread_body, &thread));
	ASSERT_EQ(sizeof(tid), read(thread.pipefd[0], &tid, sizeof(tid)));
	ASSERT_LT(0, tid);

	/* The fd is looked up in the thread's own table, shared or not. */
	EXPECT_EQ(expected, kcmp_entry_of(tid, tfd, getpid(), efd, tfd, 0));
	EXPECT_EQ(0, kcmp_entry_of(getpid(), tfd, tid, efd, tfd, 0));
	EXPECT_EQ(expected, kcmp_entry_of(tid, tfd, tid, efd, tfd, 0));
}

TEST_F(epoll, threads_that_share_files)
{
	check_thread(_metadata, self->efd, self->tfd, true);
}

TEST_F(epoll, thread_with_its_own_files)
{
	check_thread(_metadata, self->efd, self->tfd, false);
}

/* Executed by the test "after_exec": compare the inherited files. */
static int after_exec(char **argv)
{
	int efd = atoi(argv[0]), tfd = atoi(argv[1]), open = atoi(argv[2]);

	/* exec() closed tfd, but the file is still open at another fd. */
	if (kcmp_entry(tfd, efd, tfd, 0) != -EBADF)
		return 1;
	if (kcmp_entry(open, efd, tfd, 0) != 0)
		return 2;
	if (kcmp_entry_of(getppid(), tfd, getpid(), efd, tfd, 0) != 0)
		return 3;
	return 0;
}

TEST_F(epoll, after_exec)
{
	char efd[16], tfd[16], open[16];
	pid_t child;
	int status;

	ASSERT_EQ(TFD, dup2(self->tfd, TFD));
	ASSERT_EQ(0, fcntl(self->tfd, F_SETFD, FD_CLOEXEC));
	snprintf(efd, sizeof(efd), "%d", self->efd);
	snprintf(tfd, sizeof(tfd), "%d", self->tfd);
	snprintf(open, sizeof(open), "%d", TFD);

	child = fork();
	ASSERT_LE(0, child);
	if (child == 0) {
		execl("/proc/self/exe", "kcmp_epoll_tfd_test", AFTER_EXEC, efd,
		      tfd, open, NULL);
		_exit(127);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

/* A process that has exited but was not waited for has no files. */
TEST_F(epoll, zombie)
{
	pid_t child = fork(), me = getpid();
	siginfo_t info;

	ASSERT_LE(0, child);
	if (child == 0)
		_exit(0);
	ASSERT_EQ(0, waitid(P_PID, child, &info, WEXITED | WNOWAIT));

	EXPECT_EQ(-EBADF, kcmp_entry_of(child, self->tfd, me, self->efd,
					self->tfd, 0));
	EXPECT_EQ(-EBADF, kcmp_entry_of(me, self->tfd, child, self->efd,
					self->tfd, 0));
	EXPECT_EQ(-EBADF, kcmp_entry_of(child, self->tfd, child, self->efd,
					self->tfd, 0));
	waitpid(child, NULL, 0);
	EXPECT_EQ(-ESRCH, kcmp_entry_of(me, self->tfd, child, self->efd,
					self->tfd, 0));
}

/* --- io_uring ------------------------------------------------------------ */

struct uring {
	int fd;
	unsigned int *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static void uring_queue(struct uring *ring, struct io_uring_sqe sqe)
{
	unsigned int slot = *ring->sq_tail & *ring->sq_mask;

	ring->sqes[slot] = sqe;
	ring->sq_array[slot] = slot;
	__atomic_store_n(ring->sq_tail, *ring->sq_tail + 1, __ATOMIC_RELEASE);
}

static void uring_queue_ctl(struct uring *ring, int efd, int op, int fd,
			    const struct epoll_event *ev, int flags)
{
	uring_queue(ring, (struct io_uring_sqe) {
		.opcode = IORING_OP_EPOLL_CTL,
		.flags = flags,
		.fd = efd,
		.addr = (unsigned long)ev,
		.len = op,
		.off = fd,
	});
}

static bool uring_enter(struct uring *ring, int submit, int wait)
{
	return syscall(__NR_io_uring_enter, ring->fd, submit, wait,
		       wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0) == submit;
}

static int uring_result(struct uring *ring)
{
	int ret = ring->cqes[*ring->cq_head & *ring->cq_mask].res;

	__atomic_store_n(ring->cq_head, *ring->cq_head + 1, __ATOMIC_RELEASE);
	return ret;
}

static int uring_ctl(struct uring *ring, int efd, int op, int fd,
		     const struct epoll_event *ev, int flags)
{
	uring_queue_ctl(ring, efd, op, fd, ev, flags);
	return uring_enter(ring, 1, 1) ? uring_result(ring) : -errno;
}

/* Return false if the kernel has no io_uring with IORING_OP_EPOLL_CTL. */
static bool uring_setup(struct uring *ring)
{
	struct io_uring_params params = {};
	size_t size;
	char *map;

	ring->fd = syscall(__NR_io_uring_setup, 2, &params);
	if (ring->fd < 0 || !(params.features & IORING_FEAT_SINGLE_MMAP))
		return false;

	size = params.cq_off.cqes + params.cq_entries * sizeof(*ring->cqes);
	if (size < params.sq_off.array + params.sq_entries * sizeof(int))
		size = params.sq_off.array + params.sq_entries * sizeof(int);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
		   IORING_OFF_SQ_RING);
	ring->sqes = mmap(NULL, params.sq_entries * sizeof(*ring->sqes),
			  PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
			  IORING_OFF_SQES);
	if (map == MAP_FAILED || ring->sqes == MAP_FAILED)
		return false;

	ring->sq_tail = (unsigned int *)(map + params.sq_off.tail);
	ring->sq_mask = (unsigned int *)(map + params.sq_off.ring_mask);
	ring->sq_array = (unsigned int *)(map + params.sq_off.array);
	ring->cq_head = (unsigned int *)(map + params.cq_off.head);
	ring->cq_mask = (unsigned int *)(map + params.cq_off.ring_mask);
	ring->cqes = (struct io_uring_cqe *)(map + params.cq_off.cqes);
	return uring_ctl(ring, NOT_OPEN, EPOLL_CTL_DEL, NOT_OPEN, NULL, 0) ==
	       -EBADF;
}

TEST_F(epoll, io_uring_ctl)
{
	static const int flags[] = { 0, IOSQE_ASYNC };
	struct epoll_event ev = { .events = EPOLLIN };
	struct uring ring;

	if (!uring_setup(&ring))
		SKIP(return, "no IORING_OP_EPOLL_CTL");
	ASSERT_EQ(TFD, dup2(self->other, TFD));

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		ASSERT_EQ(0, uring_ctl(&ring, self->efd, EPOLL_CTL_ADD, TFD, &ev,
				       flags[i]));
		EXPECT_EQ(0, kcmp_entry(self->other, self->efd, TFD, 0));
		EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd, TFD, 1));

		ASSERT_EQ(0, uring_ctl(&ring, self->efd, EPOLL_CTL_MOD, TFD, &ev,
				       flags[i]));
		EXPECT_EQ(0, kcmp_entry(self->other, self->efd, TFD, 0));
		ASSERT_EQ(0, uring_ctl(&ring, self->efd, EPOLL_CTL_DEL, TFD,
				       NULL, flags[i]));
		EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd, TFD, 0));
	}

	/* The ring is a file, too, and can be added. */
	ASSERT_EQ(0, epoll_add(self->efd, ring.fd, 0));
	EXPECT_EQ(0, kcmp_entry(ring.fd, self->efd, ring.fd, 0));
}

/* Close or reuse the fd of an EPOLL_CTL_DEL after it was submitted. */
static void check_late_del(struct __test_metadata *_metadata,
			   FIXTURE_DATA(epoll) const *self, bool reuse)
{
	int gate = eventfd(0, 0), dupped = dup(self->tfd);
	struct uring ring;
	__u64 value;

	if (!uring_setup(&ring))
		SKIP(return, "no IORING_OP_EPOLL_CTL");
	ASSERT_LE(0, gate);
	ASSERT_LE(0, dupped);

	/* The link delays EPOLL_CTL_DEL until the read from the gate is done. */
	uring_queue(&ring, (struct io_uring_sqe) {
		.opcode = IORING_OP_READ,
		.flags = IOSQE_IO_LINK,
		.fd = gate,
		.addr = (unsigned long)&value,
		.len = sizeof(value),
	});
	uring_queue_ctl(&ring, self->efd, EPOLL_CTL_DEL, self->tfd, NULL, 0);
	ASSERT_TRUE(uring_enter(&ring, 2, 0));

	close(self->tfd);
	if (reuse)
		ASSERT_EQ(self->tfd, dup2(self->other, self->tfd));
	ASSERT_EQ(0, eventfd_write(gate, 1));
	ASSERT_TRUE(uring_enter(&ring, 0, 2));
	ASSERT_EQ(sizeof(value), uring_result(&ring));
	EXPECT_EQ(reuse ? -ENOENT : -EBADF, uring_result(&ring));
	EXPECT_EQ(0, kcmp_entry(dupped, self->efd, self->tfd, 0));
}

TEST_F(epoll, io_uring_del_of_closed_fd)
{
	check_late_del(_metadata, self, false);
}

TEST_F(epoll, io_uring_del_of_reused_fd)
{
	check_late_del(_metadata, self, true);
}

/* --- Errors, one at a time ----------------------------------------------- */

/* A free pid: that of a child that was waited for. */
static pid_t free_pid(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return pid;
}

/* The error shows which option the kernel was built without. */
TEST(not_built)
{
	int no_such_call = syscall(-1) < 0 ? -errno : 0;
	int expected = !kcmp_is_built() ? no_such_call :
		       !epoll_is_built() ? -EOPNOTSUPP : -EFAULT;

	EXPECT_EQ(expected, kcmp_slot(getpid(), getpid(), 0, NULL));
}

TEST_F(epoll, esrch)
{
	const pid_t none[] = { 0, -1, INT_MIN, INT_MAX, free_pid() };
	pid_t me = getpid();

	for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
		EXPECT_EQ(-ESRCH, kcmp_entry_of(none[i], self->tfd, me,
						self->efd, self->tfd, 0));
		EXPECT_EQ(-ESRCH, kcmp_entry_of(me, self->tfd, none[i],
						self->efd, self->tfd, 0));
		EXPECT_EQ(-ESRCH, kcmp_entry_of(none[i], self->tfd, none[i],
						self->efd, self->tfd, 0));
	}
}

TEST_F(epoll, ebadf)
{
	EXPECT_EQ(-EBADF, kcmp_entry(NOT_OPEN, self->efd, self->tfd, 0));
	EXPECT_EQ(-EBADF, kcmp_entry(-1, self->efd, self->tfd, 0));
	EXPECT_EQ(-EBADF, kcmp_entry(self->tfd, NOT_OPEN, self->tfd, 0));
	EXPECT_EQ(-EBADF, kcmp_entry(self->tfd, -1, self->tfd, 0));
	EXPECT_EQ(-EBADF, kcmp_entry(self->tfd, INT_MIN, self->tfd, 0));

	EXPECT_EQ(-EBADF, kcmp_file(NOT_OPEN, self->tfd));
	EXPECT_EQ(-EBADF, kcmp_file(self->tfd, NOT_OPEN));
	EXPECT_EQ(-EBADF, kcmp_file(NOT_OPEN, NOT_OPEN));
}

TEST_F(epoll, einval)
{
	EXPECT_EQ(-EINVAL, kcmp_entry(self->tfd, self->tfd, self->tfd, 0));
	EXPECT_EQ(-EINVAL, kcmp_entry(self->tfd, self->other, NOT_OPEN, 9));
}

TEST_F(epoll, enoent)
{
	EXPECT_EQ(-ENOENT, kcmp_entry(self->other, self->efd, self->other, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->tfd, self->efd, self->tfd, 1));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->tfd, self->efd, self->tfd, UINT_MAX));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->tfd, self->efd, -1, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->tfd, self->efd, 0x80000000, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->tfd, self->efd, INT_MAX, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(self->tfd, self->efd, self->tfd - 1, 0));
}

/* Map a page, with nothing mapped after it. Return its end. */
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

	ASSERT_TRUE(end && none);
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->tfd, NULL));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->tfd, (void *)4));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->tfd, end));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->tfd, none - 64));

	/* Only a part of the slot is mapped. */
	memset(end - sizeof(struct kcmp_epoll_slot), 0,
	       sizeof(struct kcmp_epoll_slot));
	for (size_t i = 1; i < sizeof(struct kcmp_epoll_slot); i++)
		EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->tfd, end - i));
	EXPECT_NE(-EFAULT, kcmp_slot(me, me, self->tfd,
				     end - sizeof(struct kcmp_epoll_slot)));

	/* Kernel addresses, non-canonical ones, and the highest ones. */
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->tfd,
				     (void *)(LONG_MIN | 4096)));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->tfd, (void *)LONG_MIN));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->tfd, (void *)(LONG_MAX / 2)));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->tfd, (void *)-4096L));
	EXPECT_EQ(-EFAULT, kcmp_slot(me, me, self->tfd, (void *)-4L));
}

/* The slot may be at any address, and in read-only memory. */
TEST_F(epoll, slot_at_any_readable_address)
{
	char *end = end_of_mapping(PROT_READ | PROT_WRITE);
	const struct kcmp_epoll_slot slot = {
		.efd = self->efd, .tfd = self->tfd,
	};
	long page = sysconf(_SC_PAGESIZE);
	pid_t me = getpid();

	ASSERT_TRUE(!!end);
	for (size_t i = 0; i < 8; i++) {
		char *addr = end - sizeof(slot) - i;

		memcpy(addr, &slot, sizeof(slot));
		EXPECT_EQ(0, kcmp_slot(me, me, self->tfd, addr));
	}
	memcpy(end - sizeof(slot), &slot, sizeof(slot));
	ASSERT_EQ(0, mprotect(end - page, page, PROT_READ));
	EXPECT_EQ(0, kcmp_slot(me, me, self->tfd, end - sizeof(slot)));
}

TEST_F(epoll, slot_is_left_unchanged)
{
	static const int expect[] = { 0, -ENOENT, -EINVAL, -EBADF };
	const struct kcmp_epoll_slot slots[] = {
		{ .efd = self->efd, .tfd = self->tfd },
		{ .efd = self->efd, .tfd = self->tfd, .toff = 7 },
		{ .efd = self->other, .tfd = self->tfd, .toff = 7 },
		{ .efd = NOT_OPEN, .tfd = self->tfd, .toff = 7 },
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
		EXPECT_EQ(expect[i], kcmp_slot(getpid(), getpid(), self->tfd,
					       &mem.slot));
		EXPECT_EQ(0, memcmp(&mem, &copy, sizeof(mem)));
	}
}

/* --- Permissions, and which error comes first ----------------------------- */

/*
 * Become nobody, and dumpable again, so that access only depends on the other
 * task. Needs root. syscall() only changes the calling thread.
 */
static int become_nobody(void)
{
	if (syscall(__NR_setresgid, NOBODY, NOBODY, NOBODY) ||
	    syscall(__NR_setresuid, NOBODY, NOBODY, NOBODY))
		return -1;
	return prctl(PR_SET_DUMPABLE, 1);
}

/* Check that calls fail with @error, whatever else is wrong with them. */
static void check_error_comes_first(struct __test_metadata *_metadata,
				    FIXTURE_DATA(epoll) const *self, int error,
				    pid_t pid1, pid_t pid2)
{
	/* Nothing else */
	EXPECT_EQ(error, kcmp(pid1, pid2, KCMP_FILE, self->tfd, self->tfd));
	EXPECT_EQ(error, kcmp(pid1, pid2, KCMP_VM, 0, 0));
	EXPECT_EQ(error, kcmp_entry_of(pid1, self->tfd, pid2, self->efd,
				       self->tfd, 0));
	/* EBADF of idx1, of idx2, EINVAL of the type */
	EXPECT_EQ(error, kcmp(pid1, pid2, KCMP_FILE, NOT_OPEN, self->tfd));
	EXPECT_EQ(error, kcmp(pid1, pid2, KCMP_FILE, self->tfd, NOT_OPEN));
	EXPECT_EQ(error, kcmp(pid1, pid2, KCMP_TYPES, 0, 0));
	/* EFAULT, EBADF of idx1, of efd, EINVAL of efd, ENOENT */
	EXPECT_EQ(error, kcmp_slot(pid1, pid2, self->tfd, NULL));
	EXPECT_EQ(error, kcmp_entry_of(pid1, NOT_OPEN, pid2, self->efd,
				       self->tfd, 0));
	EXPECT_EQ(error, kcmp_entry_of(pid1, self->tfd, pid2, NOT_OPEN,
				       self->tfd, 0));
	EXPECT_EQ(error, kcmp_entry_of(pid1, self->tfd, pid2, self->other,
				       self->tfd, 0));
	EXPECT_EQ(error, kcmp_entry_of(pid1, self->tfd, pid2, self->efd,
				       NOT_OPEN, 0));
	if (_metadata->exit_code)
		TH_LOG("pid1 %d, pid2 %d", pid1, pid2);
}

/* Adding an entry again fails with EEXIST, even if no more can be added. */
TEST_F(epoll, eexist_before_enospc)
{
	static const char path[] = "/proc/sys/fs/epoll/max_user_watches";
	char saved[32];
	int fd, len;

	fd = open(path, O_RDWR);
	if (fd < 0)
		SKIP(return, "needs root, and %s", path);
	len = read(fd, saved, sizeof(saved));
	ASSERT_LT(0, len);
	ASSERT_EQ(1, pwrite(fd, "0", 1, 0));
	EXPECT_EQ(-1, epoll_add(self->efd, self->tfd, 0));
	EXPECT_EQ(EEXIST, errno);
	EXPECT_EQ(-1, epoll_add(self->efd, self->other, 0));
	EXPECT_EQ(ENOSPC, errno);
	ASSERT_EQ(len, pwrite(fd, saved, len, 0));
	EXPECT_EQ(0, epoll_add(self->efd, self->other, 0));
	close(fd);
}

TEST_F(epoll, esrch_comes_first)
{
	pid_t none = free_pid(), me = getpid(), root;

	if (getuid() != 0)
		SKIP(return, "needs root");
	ASSERT_LT(0, none);
	root = fork_child(NULL, NULL);
	ASSERT_LT(0, root);
	if (become_nobody())
		SKIP(return, "cannot become nobody");

	check_error_comes_first(_metadata, self, -ESRCH, none, none);
	check_error_comes_first(_metadata, self, -ESRCH, none, me);
	check_error_comes_first(_metadata, self, -ESRCH, me, none);
	/* Before EPERM, too. */
	check_error_comes_first(_metadata, self, -ESRCH, none, root);
	check_error_comes_first(_metadata, self, -ESRCH, root, none);
}

TEST_F(epoll, eperm_comes_next)
{
	pid_t root, root2, me = getpid();

	if (getuid() != 0)
		SKIP(return, "needs root");
	root = fork_child(NULL, NULL);
	ASSERT_LT(0, root);
	root2 = fork_child(NULL, NULL);
	ASSERT_LT(0, root2);
	if (become_nobody())
		SKIP(return, "cannot become nobody");

	EXPECT_EQ(0, kcmp_entry(self->tfd, self->efd, self->tfd, 0));
	check_error_comes_first(_metadata, self, -EPERM, root, root);
	check_error_comes_first(_metadata, self, -EPERM, root, root2);
	check_error_comes_first(_metadata, self, -EPERM, root, me);
	check_error_comes_first(_metadata, self, -EPERM, me, root);
}

static void become_not_dumpable(const void *arg)
{
	prctl(PR_SET_DUMPABLE, 0);
}

TEST_F(epoll, eperm_for_not_dumpable)
{
	pid_t child, me = getpid();

	if (getuid() != 0)
		SKIP(return, "needs root");
	if (become_nobody())
		SKIP(return, "cannot become nobody");
	child = fork_child(become_not_dumpable, NULL);
	ASSERT_LT(0, child);

	check_error_comes_first(_metadata, self, -EPERM, child, child);
	check_error_comes_first(_metadata, self, -EPERM, child, me);
	check_error_comes_first(_metadata, self, -EPERM, me, child);
	kill_and_reap(child);
}

static void *thread_of_nobody(void *arg)
{
	const int *pipefd = arg;
	pid_t tid = become_nobody() ? -1 : syscall(__NR_gettid);

	if (write(pipefd[1], &tid, sizeof(tid)) == sizeof(tid))
		pause();
	return NULL;
}

static void start_thread_of_nobody(const void *arg)
{
	pthread_t id;

	if (pthread_create(&id, NULL, thread_of_nobody, (void *)arg))
		_exit(1);
}

/* Each thread has its own credentials. */
TEST_F(epoll, eperm_for_one_thread_of_two)
{
	pid_t root, nobody;
	int pipefd[2];

	if (getuid() != 0)
		SKIP(return, "needs root");
	ASSERT_EQ(0, pipe(pipefd));
	root = fork_child(start_thread_of_nobody, pipefd);
	ASSERT_LT(0, root);
	ASSERT_EQ(sizeof(nobody), read(pipefd[0], &nobody, sizeof(nobody)));
	ASSERT_LT(0, nobody);
	if (become_nobody())
		SKIP(return, "cannot become nobody");

	EXPECT_EQ(0, kcmp_entry_of(nobody, self->tfd, nobody, self->efd,
				   self->tfd, 0));
	check_error_comes_first(_metadata, self, -EPERM, root, root);
	check_error_comes_first(_metadata, self, -EPERM, root, nobody);
	check_error_comes_first(_metadata, self, -EPERM, nobody, root);
}

/* The order of the other errors, which is the same for one task and for two. */
TEST_F(epoll, order_of_other_errors)
{
	pid_t child = fork_child(NULL, NULL), me = getpid();
	const pid_t pids[][2] = {
		{ me, me }, { me, child }, { child, me }, { child, child },
	};
	int efd = self->efd, tfd = self->tfd, other = self->other;

	ASSERT_LT(0, child);
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		pid_t pid1 = pids[i][0], pid2 = pids[i][1];

		EXPECT_EQ(0, kcmp(pid1, pid2, KCMP_FILE, tfd, tfd));
		EXPECT_LT(0, kcmp(pid1, pid2, KCMP_FILE, tfd, other));
		EXPECT_EQ(-EBADF, kcmp(pid1, pid2, KCMP_FILE, tfd, NOT_OPEN));
		EXPECT_EQ(-EBADF, kcmp(pid1, pid2, KCMP_FILE, NOT_OPEN, tfd));
		EXPECT_EQ(-EINVAL, kcmp(pid1, pid2, KCMP_TYPES, 0, 0));
		EXPECT_EQ(0, kcmp_entry_of(pid1, tfd, pid2, efd, tfd, 0));

		/* EFAULT, then EBADF of idx1: the rest depends on the slot. */
		EXPECT_EQ(-EFAULT, kcmp_slot(pid1, pid2, NOT_OPEN, NULL));
		/* EBADF of idx1, then EBADF and EINVAL of efd, and ENOENT */
		EXPECT_EQ(-EBADF, kcmp_entry_of(pid1, NOT_OPEN, pid2, NOT_OPEN,
						tfd, 0));
		EXPECT_EQ(-EBADF, kcmp_entry_of(pid1, NOT_OPEN, pid2, other,
						tfd, 0));
		EXPECT_EQ(-EBADF, kcmp_entry_of(pid1, NOT_OPEN, pid2, efd,
						other, 0));
		EXPECT_EQ(-EBADF, kcmp_entry_of(pid1, NOT_OPEN, pid2, efd, tfd,
						1));
		/* EBADF of efd, then ENOENT */
		EXPECT_EQ(-EBADF, kcmp_entry_of(pid1, tfd, pid2, NOT_OPEN,
						NOT_OPEN, 0));
		EXPECT_EQ(-EBADF, kcmp_entry_of(pid1, tfd, pid2, NOT_OPEN, tfd,
						1));
		/* EINVAL of efd, then ENOENT */
		EXPECT_EQ(-EINVAL, kcmp_entry_of(pid1, tfd, pid2, other,
						 NOT_OPEN, 0));
		EXPECT_EQ(-EINVAL, kcmp_entry_of(pid1, tfd, pid2, other, tfd,
						 1));
		EXPECT_EQ(-ENOENT, kcmp_entry_of(pid1, tfd, pid2, efd, other, 0));
		EXPECT_EQ(-ENOENT, kcmp_entry_of(pid1, tfd, pid2, efd, tfd, 1));
	}
	kill_and_reap(child);
}

/* --- Many entries --------------------------------------------------------- */

/* Above all fds that are open when a test begins. */
#define FIRST	1000

/* Open @count files at fds from FIRST on. */
static bool open_many(int count)
{
	rlim_t last = FIRST + count;
	struct rlimit limit = { .rlim_cur = last, .rlim_max = last };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		return false;
	for (int fd = FIRST; fd < FIRST + count; fd++) {
		int low = eventfd(0, 0);

		if (low < 0 || dup2(low, fd) != fd || close(low))
			return false;
	}
	return true;
}

TEST_F(epoll, many_entries)
{
	const int count = 1000, end = FIRST + count;
	int efd = self->efd;

	if (!open_many(count))
		SKIP(return, "cannot open %d files", count);
	/* In neither ascending nor descending order. */
	for (int i = 0; i < count; i++)
		ASSERT_EQ(0, epoll_add(efd, FIRST + (i * 389) % count, 0));

	for (int fd = FIRST; fd < end; fd++) {
		ASSERT_EQ(0, kcmp_entry(fd, efd, fd, 0));
		ASSERT_EQ(-ENOENT, kcmp_entry(fd, efd, fd, 1));
		ASSERT_LT(0, kcmp_entry(self->other, efd, fd, 0));
	}
	EXPECT_EQ(-ENOENT, kcmp_entry(FIRST, efd, FIRST - 1, 0));
	EXPECT_EQ(-ENOENT, kcmp_entry(FIRST, efd, end, 0));

	/* Close every other one; the rest is still found. */
	for (int fd = FIRST; fd < end; fd += 2)
		ASSERT_EQ(0, close(fd));
	for (int fd = FIRST; fd < end; fd += 2) {
		ASSERT_EQ(-ENOENT, kcmp_entry(self->other, efd, fd, 0));
		ASSERT_EQ(0, kcmp_entry(fd + 1, efd, fd + 1, 0));
	}
}

/* Read fdinfo @piece bytes at a time. Return its length. */
static ssize_t read_fdinfo(int efd, char *text, size_t size, size_t piece)
{
	FILE *file = open_fdinfo(efd);
	ssize_t len = 0, got;

	if (!file)
		return -1;
	while ((got = read(fileno(file), text + len,
			   piece < size - len ? piece : size - len)) > 0)
		len += got;
	fclose(file);
	return got ? got : len;
}

/*
 * fdinfo has one line for each entry, however it is read. The entries are added
 * in descending fd order; the order of the lines is up to the kernel.
 */
static void check_fdinfo(struct __test_metadata *_metadata,
			 FIXTURE_DATA(epoll) const *self, int count)
{
	static const size_t pieces[] = { 65536, 100, 1 };
	static char texts[2][1 << 20];
	bool seen[5000] = {}, sorted = true;
	int efd = epoll_create1(0), lines = 0, last = 0;
	char *line = texts[0];
	ssize_t len;

	ASSERT_LE(0, efd);
	ASSERT_GE(ARRAY_SIZE(seen), count);
	if (!open_many(count))
		SKIP(return, "cannot open %d files", count);
	for (int fd = FIRST + count - 1; fd >= FIRST; fd--)
		ASSERT_EQ(0, epoll_add(efd, fd, fd));

	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		ssize_t got = read_fdinfo(efd, texts[!!i], sizeof(texts[0]) - 1,
					  pieces[i]);

		ASSERT_LT(0, got);
		if (i == 0)
			len = got;
		ASSERT_EQ(len, got);
		ASSERT_EQ(0, memcmp(texts[0], texts[!!i], len));
	}

	while ((line = strstr(line, "tfd:"))) {
		unsigned long long data;
		int fd;

		if (sscanf(line++, "tfd: %d events: %*x data: %llx", &fd,
			   &data) != 2)
			break;
		ASSERT_EQ(fd, data);
		ASSERT_TRUE(fd >= FIRST && fd < FIRST + count);
		ASSERT_FALSE(seen[fd - FIRST]);
		seen[fd - FIRST] = true;
		sorted &= fd > last;
		last = fd;
		if (lines++ % 50 == 0)
			ASSERT_EQ(0, kcmp_entry(fd, efd, fd, 0));
	}
	EXPECT_EQ(count, lines);
	ksft_print_msg("fdinfo lists %d entries in %s order\n", count,
		       sorted ? "fd" : "another");
}

TEST_F(epoll, fdinfo_of_79)
{
	check_fdinfo(_metadata, self, 79);
}

TEST_F(epoll, fdinfo_of_5000)
{
	check_fdinfo(_metadata, self, 5000);
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], AFTER_EXEC))
		return after_exec(argv + 2);

	return test_harness_run(argc, argv);
}
