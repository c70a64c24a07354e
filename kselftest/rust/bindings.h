/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests in Rust know of the system, by bindgen. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
