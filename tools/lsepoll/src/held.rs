// SPDX-License-Identifier: GPL-2.0

//! What else holds a file open that no fd refers to: system calls in progress, and mappings.

use crate::bytes::Bytes;
use crate::fdinfo::Entry;
use crate::listing::Listing;
use crate::process::{Fd, Pid, Place, Table, numbers};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::rc::Rc;

/// System calls that take an fd first, and may wait.
const SYSCALLS: [(libc::c_long, &str); 18] = [
    (libc::SYS_read, "read"),
    (libc::SYS_write, "write"),
    (libc::SYS_readv, "readv"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_recvmmsg, "recvmmsg"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_sendmmsg, "sendmmsg"),
    (libc::SYS_accept, "accept"),
    (libc::SYS_accept4, "accept4"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_splice, "splice"),
    (libc::SYS_epoll_pwait, "epoll_pwait"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait"),
    #[cfg(not(target_arch = "x86_64"))]
    (libc::SYS_preadv, "preadv"),
    (libc::SYS_vmsplice, "vmsplice"),
];

/// What seems to hold a file.
#[derive(Clone)]
pub enum Held {
    /// A thread of the process is in this system call, called with the fd of the entry.
    Syscall(Rc<Table>, Pid, &'static str),
    /// The process has mapped a file with the same inode, and this name.
    Mapping(Rc<Table>, Bytes),
}

/// Parses /proc/PID/task/TID/syscall: the name of the system call, and its fd.
pub fn parse_syscall(text: &str) -> Option<(&'static str, Fd)> {
    let mut fields = text.split_whitespace();
    let number: libc::c_long = fields.next()?.parse().ok()?;
    let (_, name) = SYSCALLS.iter().find(|(syscall, _)| *syscall == number)?;
    let fd = u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?;
    Some((name, fd as Fd))
}

/// Whether an address is in a mapping of a process that it can write.
pub struct Memory(Vec<std::ops::Range<u64>>);

impl Memory {
    pub fn of(pid: Pid) -> Memory {
        let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        let range = |line: &str| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let hex = |text| u64::from_str_radix(text, 16).ok();
            rest.starts_with("rw").then_some(hex(start)?..hex(end)?)
        };
        Memory(
            String::from_utf8_lossy(&maps)
                .lines()
                .filter_map(range)
                .collect(),
        )
    }

    pub fn has(&self, address: u64) -> bool {
        let next = self.0.partition_point(|range| range.start <= address);
        next > 0 && self.0[next - 1].contains(&address)
    }
}

/// Parses a line of /proc/PID/maps: the device as major and minor, the inode, and the name.
pub fn parse_mapping(line: &str) -> Option<((u32, u32), u64, &str)> {
    let mut fields = line.splitn(6, ' ');
    let device = fields.nth(3)?;
    let (major, minor) = device.split_once(':')?;
    let hex = |text| u32::from_str_radix(text, 16).ok();
    let inode = fields.next()?.parse().ok()?;
    Some((
        (hex(major)?, hex(minor)?),
        inode,
        fields.next()?.trim_start(),
    ))
}

type Inode = ((u32, u32), u64);
type Mappings = HashMap<Inode, Vec<(Rc<Table>, Bytes)>>;

/// What was read so far.
#[derive(Default)]
pub struct Holds {
    /// By process.
    syscalls: HashMap<Pid, Vec<(Pid, &'static str, Fd)>>,
    mappings: Option<Mappings>,
}

impl Holds {
    /// Looks for system calls in the processes that have the epoll file open, and for mappings in
    /// all.
    pub fn find(&mut self, entry: &Entry, holders: &[Place], listing: &Listing) -> Vec<Held> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        for Place { table, .. } in holders {
            if !seen.insert(table.pid) {
                continue;
            }
            let syscalls = (self.syscalls.entry(table.pid)).or_insert_with(|| syscalls(table.pid));
            for (tid, name, fd) in syscalls {
                if *fd == entry.tfd {
                    found.push(Held::Syscall(table.clone(), *tid, name));
                }
            }
        }
        let inode = ((entry.device >> 20, entry.device & 0xf_ffff), entry.inode);
        let mappings = self.mappings.get_or_insert_with(|| mappings(listing));
        for (table, name) in mappings.get(&inode).into_iter().flatten() {
            found.push(Held::Mapping(table.clone(), name.clone()));
        }
        found
    }
}

/// The system calls of the threads of a process.
fn syscalls(pid: Pid) -> Vec<(Pid, &'static str, Fd)> {
    let tids = numbers(&format!("/proc/{pid}/task")).unwrap_or_default();
    let syscall = |tid| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
        parse_syscall(&text).map(|(name, fd)| (tid, name, fd))
    };
    tids.into_iter().filter_map(syscall).collect()
}

/// The mappings of files that can be entries: those without a path, and devices.
fn mappings(listing: &Listing) -> Mappings {
    let mut mappings = Mappings::new();
    for table in listing.tables().map(|listed| &listed.table) {
        let maps = fs::read(format!("/proc/{}/maps", table.tid)).unwrap_or_default();
        let mut seen = HashSet::new();
        for (device, inode, name) in String::from_utf8_lossy(&maps)
            .lines()
            .filter_map(parse_mapping)
        {
            let is_pollable = !name.starts_with('/') || name.starts_with("/dev/");
            if inode != 0 && is_pollable && seen.insert((device, inode)) {
                let mapping = (table.clone(), name.to_string().into());
                mappings.entry((device, inode)).or_default().push(mapping);
            }
        }
    }
    mappings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls() {
        let read = format!(
            "{} 0x3c 0x7ffe 0x8 0x0 0x0 0x0 0x7ffe 0x7f00\n",
            libc::SYS_read
        );
        assert_eq!(parse_syscall(&read), Some(("read", 60)));
        assert_eq!(parse_syscall("running\n"), None);
        assert_eq!(parse_syscall("-1 0x7ffe 0x7f00\n"), None);
    }

    #[test]
    fn mappings() {
        let line = "7f12a000-7f12b000 rw-s 00000000 00:0f 17      anon_inode:[perf_event]";
        let expected = ((0, 15), 17, "anon_inode:[perf_event]");
        assert_eq!(parse_mapping(line), Some(expected));
        assert_eq!(
            parse_mapping("7f12a000-7f12b000 rw-p 00000000 00:00 0 "),
            Some(((0, 0), 0, ""))
        );
        assert_eq!(parse_mapping("7f12a000-7f12b000 rw-p"), None);
    }
}
