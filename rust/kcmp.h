/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_KCMP_H
#define _LINUX_KCMP_H

#include <uapi/linux/kcmp.h>

struct file;
struct task_struct;

#ifdef CONFIG_KCMP_EPOLL_TFD_RUST
/* kernel/kcmp.c */
int kcmp_file_ptr(struct file *filp1, struct file *filp2);

/* kernel/kcmp_epoll.rs */
int kcmp_epoll_target(struct task_struct *task1, struct task_struct *task2,
		      unsigned long idx1, struct kcmp_epoll_slot __user *uslot);
#endif

#endif /* _LINUX_KCMP_H */
