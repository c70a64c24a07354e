// SPDX-License-Identifier: GPL-2.0
/*
 * Example for kcmp(2): find the files behind the targets of an epoll file.
 *
 * Shown in Documentation/userspace-api/kcmp.rst. Sorts the open files by
 * KCMP_FILE, then searches them for each target by KCMP_EPOLL_TFD. Exits with 0
 * if it finds each file where it is, else with 1.
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <err.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_FILES	256
#define MAX_TARGETS	16

struct target {
	struct kcmp_epoll_slot slot;
	int lives_at;		/* known here, since this program put it there */
};

/* There is no wrapper in libc. */
static int kcmp(pid_t pid1, pid_t pid2, int type, unsigned long idx1,
		unsigned long idx2)
{
	int ret = syscall(SYS_kcmp, pid1, pid2, type, idx1, idx2);

	if (ret < 0)
		err(1, "kcmp");
	return ret;
}

/* What kcmp() returns, in the form that qsort() and bsearch() want. */
static int order(int result)
{
	switch (result) {
	case 0:
		return 0;
	case 1:
		return -1;
	case 2:
		return 1;
	default:
		errx(1, "the files cannot be sorted");
	}
}

static int compare_files(const void *a, const void *b)
{
	const int *fd1 = a, *fd2 = b;

	return order(kcmp(getpid(), getpid(), KCMP_FILE, *fd1, *fd2));
}

static int compare_target(const void *key, const void *elem)
{
	const struct kcmp_epoll_slot *slot = key;
	const int *fd = elem;

	/* kcmp() has the file first and the target second, bsearch() not. */
	return -order(kcmp(getpid(), getpid(), KCMP_EPOLL_TFD, *fd,
			   (unsigned long)slot));
}

/* List the open files of this process. */
static int list_files(int fds[MAX_FILES])
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int count = 0;

	if (!dir)
		err(1, "/proc/self/fd");
	while ((entry = readdir(dir))) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] == '.' || fd == dirfd(dir))
			continue;
		if (count == MAX_FILES)
			errx(1, "too many open files");
		fds[count++] = fd;
	}
	closedir(dir);
	return count;
}

/* List the targets of an epoll file of this process. */
static int list_targets(int efd, struct target targets[MAX_TARGETS])
{
	char path[64], line[256];
	int count = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", efd);
	file = fopen(path, "r");
	if (!file)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), file)) {
		struct target target = { .slot.efd = efd };
		unsigned long long data;

		if (sscanf(line, "tfd: %u events: %*x data: %llx",
			   &target.slot.tfd, &data) != 2)
			continue;
		if (count == MAX_TARGETS)
			errx(1, "too many targets");

		/* How many targets of this number stand before it? */
		for (int i = 0; i < count; i++)
			if (targets[i].slot.tfd == target.slot.tfd)
				target.slot.toff++;
		target.lives_at = data;
		targets[count++] = target;
	}
	fclose(file);
	return count;
}

static void move_file(int from, int to)
{
	if (from == to)
		return;
	if (dup2(from, to) < 0 || close(from))
		err(1, "moving file %d to %d", from, to);
}

static void new_file(int fd)
{
	int file = eventfd(0, 0);

	if (file < 0)
		err(1, "eventfd");
	move_file(file, fd);
}

/* Add a new file under the number @tfd, then move it to @lives_at. */
static void add_target(int efd, int tfd, int lives_at)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = lives_at };

	new_file(tfd);
	if (epoll_ctl(efd, EPOLL_CTL_ADD, tfd, &event))
		err(1, "adding file %d", tfd);
	move_file(tfd, lives_at);
}

int main(void)
{
	struct target targets[MAX_TARGETS];
	int fds[MAX_FILES];
	int num_targets, num_files, wrong = 0;
	int efd = epoll_create1(0);

	if (efd < 0)
		err(1, "epoll_create1");

	/* Three targets with one number: two have moved, one is still there. */
	add_target(efd, 100, 201);
	add_target(efd, 100, 202);
	add_target(efd, 100, 100);

	/* One that has moved; its number is used for a file not in the set. */
	add_target(efd, 110, 210);
	new_file(110);

	num_files = list_files(fds);
	num_targets = list_targets(efd, targets);
	if (num_targets != 4)
		errx(1, "%d targets are listed, not 4", num_targets);

	qsort(fds, num_files, sizeof(*fds), compare_files);

	printf(" tfd toff  the file is at\n");
	for (int i = 0; i < num_targets; i++) {
		const struct target *target = &targets[i];
		const int *fd = bsearch(&target->slot, fds, num_files,
					sizeof(*fds), compare_target);

		printf("%4u %4u  ", target->slot.tfd, target->slot.toff);
		if (fd)
			printf("%d", *fd);
		else
			printf("none of these files");
		if (fd && *fd == target->lives_at) {
			printf("\n");
		} else {
			printf(", WRONG: it is at %d\n", target->lives_at);
			wrong++;
		}
	}
	return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
