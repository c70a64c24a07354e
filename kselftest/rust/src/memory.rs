// SPDX-License-Identifier: GPL-2.0

//! Memory.

use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::AtomicU64;

/// Memory that this process shares with those that it forks later: words that are 0 at first.
pub fn share_words<const N: usize>() -> io::Result<&'static [AtomicU64; N]> {
    let len = mem::size_of::<[AtomicU64; N]>();
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: A new mapping, at an address that the kernel chooses.
    let memory = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The mapping is as long as the array, aligned to a page, zeroed, and never unmapped.
    // Atomics may be changed by other processes.
    Ok(unsafe { &*memory.cast() })
}

/// The size of a page.
pub fn page_size() -> usize {
    // SAFETY: No memory is involved.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}
