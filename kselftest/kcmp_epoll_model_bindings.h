/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads for kcmp_epoll_model_test.rs. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
