// SPDX-License-Identifier: GPL-2.0

//! Memory.

use crate::c;
use std::io;
use std::ptr;
use std::sync::atomic::AtomicU64;

/// Maps anonymous memory, at an address that the kernel chooses.
pub fn map(len: usize, rights: i32, flags: i32) -> io::Result<*mut u8> {
    let flags = flags | c::MAP_ANONYMOUS;
    // SAFETY: Without MAP_FIXED, this affects no other mapping.
    let memory = unsafe { c::mmap(ptr::null_mut(), len, rights, flags, -1, 0) };
    if memory.addr() == usize::MAX {
        return Err(io::Error::last_os_error());
    }
    Ok(memory.cast())
}

/// Words, initially 0, that this process shares with those that it forks later.
pub fn share_words<const N: usize>() -> io::Result<&'static [AtomicU64; N]> {
    let len = size_of::<[AtomicU64; N]>();
    let memory = map(len, c::PROT_READ | c::PROT_WRITE, c::MAP_SHARED)?;
    // SAFETY: The mapping is as long as the array, aligned to a page, zeroed, and never unmapped.
    // Atomics may be changed by other processes.
    Ok(unsafe { &*memory.cast() })
}

/// The size of a page.
pub fn page_size() -> usize {
    // SAFETY: No memory is involved.
    unsafe { c::sysconf(c::_SC_PAGESIZE as i32) as usize }
}
