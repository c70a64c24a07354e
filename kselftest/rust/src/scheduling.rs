// SPDX-License-Identifier: GPL-2.0

//! When processes run, and where.

use crate::cvt;
use std::io;
use std::mem;

/// Lists the CPUs that this process may run on.
pub fn list_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: All bits zero is a valid `cpu_set_t`: an empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is valid for writing.
    cvt(unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) })?;
    let all = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: No CPU is beyond the size of the set.
    Ok(all
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Lets the calling thread run on one CPU only.
pub fn run_on(cpu: usize) -> io::Result<()> {
    // SAFETY: All bits zero is a valid `cpu_set_t`: an empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: CPU_SET() does nothing for a CPU beyond the size of the set. `set` is valid for
    // reading.
    unsafe {
        libc::CPU_SET(cpu, &mut set);
        cvt(libc::sched_setaffinity(0, mem::size_of_val(&set), &set)).map(drop)
    }
}

/// Makes the scheduling policy of this process real time, or the usual one.
pub fn set_real_time(on: bool) -> io::Result<()> {
    let (policy, sched_priority) = if on {
        (libc::SCHED_FIFO, 1)
    } else {
        (libc::SCHED_OTHER, 0)
    };
    let param = libc::sched_param { sched_priority };
    // SAFETY: `param` is valid for the duration of the call.
    cvt(unsafe { libc::sched_setscheduler(0, policy, &param) }).map(drop)
}
