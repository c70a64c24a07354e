// SPDX-License-Identifier: GPL-2.0
/*
 * Example for kcmp(2): find the fds of the target files of an epoll file.
 *
 * Sorts the open fds with KCMP_FILE, then searches them for the target file of each entry with
 * KCMP_EPOLL_TFD. Exits with 0 if it finds each at the fd where it is, else
 * with 1.
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
#define MAX_ENTRIES	16

/* An entry of the interest list. */
struct entry {
	struct kcmp_epoll_slot slot;
	int target_fd;		/* where this program has put the target file */
};

/* libc has no wrapper. */
static int kcmp(pid_t pid1, pid_t pid2, int type, unsigned long idx1,
		unsigned long idx2)
{
	int ret = syscall(SYS_kcmp, pid1, pid2, type, idx1, idx2);

	if (ret < 0)
		err(1, "kcmp");
	return ret;
}

/* Turn a result of kcmp() into one for qsort() and bsearch(). */
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

static int compare_entry(const void *key, const void *elem)
{
	const struct kcmp_epoll_slot *slot = key;
	const int *fd = elem;

	/* kcmp() takes the fd first, bsearch() passes the entry first. */
	return -order(kcmp(getpid(), getpid(), KCMP_EPOLL_TFD, *fd,
			   (unsigned long)slot));
}

/* List the open fds of this process. */
static int list_files(int fds[MAX_FILES])
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *dirent;
	int count = 0;

	if (!dir)
		err(1, "/proc/self/fd");
	while ((dirent = readdir(dir))) {
		int fd = atoi(dirent->d_name);

		if (dirent->d_name[0] == '.' || fd == dirfd(dir))
			continue;
		if (count == MAX_FILES)
			errx(1, "too many open files");
		fds[count++] = fd;
	}
	closedir(dir);
	return count;
}

/* List the entries of an epoll file of this process. */
static int list_entries(int efd, struct entry entries[MAX_ENTRIES])
{
	char path[64], line[256];
	int count = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", efd);
	file = fopen(path, "r");
	if (!file)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), file)) {
		struct entry entry = { .slot.efd = efd };
		unsigned long long data;

		if (sscanf(line, "tfd: %u events: %*x data: %llx",
			   &entry.slot.tfd, &data) != 2)
			continue;
		if (count == MAX_ENTRIES)
			errx(1, "too many entries");

		/* Count the entries of the same fd before this one. */
		for (int i = 0; i < count; i++)
			if (entries[i].slot.tfd == entry.slot.tfd)
				entry.slot.toff++;
		entry.target_fd = data;
		entries[count++] = entry;
	}
	fclose(file);
	return count;
}

static void move_file(int from, int to)
{
	if (from == to)
		return;
	if (dup2(from, to) < 0 || close(from))
		err(1, "moving fd %d to %d", from, to);
}

static void new_file(int fd)
{
	int file = eventfd(0, 0);

	if (file < 0)
		err(1, "eventfd");
	move_file(file, fd);
}

/* Add a new file at @tfd, then move it to @target_fd. */
static void add_entry(int efd, int tfd, int target_fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = target_fd };

	new_file(tfd);
	if (epoll_ctl(efd, EPOLL_CTL_ADD, tfd, &event))
		err(1, "adding fd %d", tfd);
	move_file(tfd, target_fd);
}

int main(void)
{
	struct entry entries[MAX_ENTRIES];
	int fds[MAX_FILES];
	int num_entries, num_files, wrong = 0;
	int efd = epoll_create1(0);

	if (efd < 0)
		err(1, "epoll_create1");

	/* Three entries that share an fd: two files moved, one is still there. */
	add_entry(efd, 100, 201);
	add_entry(efd, 100, 202);
	add_entry(efd, 100, 100);

	/* A file that moved; its fd is reused by a file that is not added. */
	add_entry(efd, 110, 210);
	new_file(110);

	num_files = list_files(fds);
	num_entries = list_entries(efd, entries);
	if (num_entries != 4)
		errx(1, "%d entries are listed, not 4", num_entries);

	qsort(fds, num_files, sizeof(*fds), compare_files);

	printf(" tfd toff  target file at fd\n");
	for (int i = 0; i < num_entries; i++) {
		const struct entry *entry = &entries[i];
		const int *fd = bsearch(&entry->slot, fds, num_files,
					sizeof(*fds), compare_entry);

		printf("%4u %4u  ", entry->slot.tfd, entry->slot.toff);
		if (fd)
			printf("%d", *fd);
		else
			printf("none of these");
		if (fd && *fd == entry->target_fd) {
			printf("\n");
		} else {
			printf(", WRONG: it is at %d\n", entry->target_fd);
			wrong++;
		}
	}
	return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
