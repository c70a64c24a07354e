// SPDX-License-Identifier: GPL-2.0

//! Processes, their fd tables, and the places where files are open.

use crate::bytes::Bytes;
use crate::error::Error;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::rc::Rc;

pub type Pid = libc::pid_t;
pub type Fd = libc::c_int;

/// An fd table. Threads of a process usually share one.
#[derive(Debug)]
pub struct Table {
    pub pid: Pid,
    /// A thread that uses the table. Differs from `pid` if the thread has its own table.
    pub tid: Pid,
    pub comm: Bytes,
    /// When the process was started, in clock ticks since boot.
    pub started: u64,
}

#[cfg(test)]
impl Table {
    /// The table of this process.
    pub fn own() -> Rc<Table> {
        let pid = std::process::id() as Pid;
        Rc::new(Table {
            pid,
            tid: pid,
            comm: Bytes::default(),
            started: 0,
        })
    }
}

/// A place where a file is open.
#[derive(Clone, Debug)]
pub struct Place {
    pub table: Rc<Table>,
    pub fd: Fd,
}

impl Place {
    pub fn new(table: &Rc<Table>, fd: Fd) -> Place {
        let table = table.clone();
        Place { table, fd }
    }

    /// The target of the link in /proc; `None` if the fd is not open.
    pub fn link(&self) -> Option<String> {
        self.read_link().ok()
    }

    pub fn read_link(&self) -> io::Result<String> {
        let link = fs::read_link(self.path("fd"))?;
        Ok(link.to_string_lossy().into_owned())
    }

    pub fn path(&self, directory: &str) -> String {
        format!("/proc/{}/{directory}/{}", self.table.tid, self.fd)
    }

    /// Another fd of the same table.
    pub fn sibling(&self, fd: Fd) -> Place {
        Place::new(&self.table, fd)
    }
}

/// The fields of /proc/PID/stat that are used here.
#[derive(Debug, Eq, PartialEq)]
pub struct Stat {
    pub comm: Bytes,
    pub state: char,
    pub parent: Pid,
    pub kernel_thread: bool,
    pub threads: u64,
    pub started: u64,
}

const PF_KTHREAD: u64 = 0x0020_0000;

impl Stat {
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }

    /// The fd table of a thread of the process with this status.
    pub fn table(&self, pid: Pid, tid: Pid) -> Rc<Table> {
        Rc::new(Table {
            pid,
            tid,
            comm: self.comm.clone(),
            started: self.started,
        })
    }
}

pub fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name may contain parentheses, the rest does not.
    let start = text.iter().position(|byte| *byte == b'(')? + 1;
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let comm = text.get(start..end)?.to_vec();
    let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // See proc_pid_stat(5), where the state, which is first here, is field 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        comm: comm.into(),
        state: fields.first()?.chars().next()?,
        parent: number(4)?.try_into().ok()?,
        kernel_thread: number(9)? & PF_KTHREAD != 0,
        threads: number(20)?,
        started: number(22)?,
    })
}

/// The status of a process, or of a thread.
pub fn stat(pid: Pid) -> io::Result<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or(ErrorKind::InvalidData.into())
}

/// The entries of a directory whose names are numbers.
pub fn numbers(directory: &str) -> io::Result<Vec<i32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(numbers)
}

/// The pid of lsepoll, as /proc shows it.
pub fn own_pid() -> Result<Pid, Error> {
    let pid = std::process::id() as Pid;
    match fs::read_link("/proc/self") {
        Ok(link) if link == Path::new(&pid.to_string()) => Ok(pid),
        Ok(_) => Err(Error::OtherProc),
        // There is no link for a process that is not in the namespace of this /proc.
        Err(_) if Path::new("/proc/version").exists() => Err(Error::OtherProc),
        Err(_) => Err(Error::NoProc),
    }
}

/// Whether /proc hides the processes of other users.
pub fn is_proc_hidden() -> bool {
    !Path::new("/proc/1").exists()
}

/// Whether lsepoll has CAP_SYS_PTRACE.
pub fn may_ptrace() -> bool {
    const CAP_SYS_PTRACE: u32 = 19;

    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    effective.is_some_and(|set| set >> CAP_SYS_PTRACE & 1 == 1)
}

/// The process that a pid or a tid belongs to.
pub fn process_of(pid: Pid) -> Result<Pid, Error> {
    let status = match fs::read(format!("/proc/{pid}/status")) {
        Ok(status) => status,
        Err(e) if is_not_permitted(&e) => return Err(Error::HiddenProcess(pid)),
        Err(_) if is_alive(pid) => return Err(Error::HiddenProcess(pid)),
        Err(_) => return Err(Error::NoProcess(pid)),
    };
    String::from_utf8_lossy(&status)
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
        .ok_or(Error::NoProcess(pid))
}

/// Whether a process exists, visible in /proc or not.
pub fn is_alive(pid: Pid) -> bool {
    // SAFETY: No memory is involved, and no signal is sent.
    let sent = unsafe { libc::kill(pid, 0) };
    sent == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

pub fn is_not_permitted(error: &io::Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied
}

/// The age of a process in seconds.
pub fn age(table: &Table) -> Option<u64> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    // SAFETY: No memory is involved.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some((uptime as u64).saturating_sub(table.started / u64::try_from(ticks).ok()?.max(1)))
}

/// Whether a process is called `name`: its main thread, its executable, or argv[0].
pub fn has_name(table: &Table, name: &[u8]) -> bool {
    if *table.comm == *name {
        return true;
    }
    let is_last = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next() == Some(name);
    let command = fs::read(format!("/proc/{}/cmdline", table.pid)).unwrap_or_default();
    let is_argv0 = command.split(|byte| *byte == 0).next().is_some_and(is_last);
    is_argv0
        || fs::read_link(format!("/proc/{}/exe", table.pid)).is_ok_and(|exe| {
            let exe = exe.as_os_str().as_encoded_bytes();
            is_last(exe.strip_suffix(b" (deleted)").unwrap_or(exe))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_an_odd_name() {
        let text = b"7 (a) b\n) S 1 7 7 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 3 0 4711 0 0\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!(*stat.comm, *b"a) b\n");
        assert!(stat.kernel_thread);
        assert_eq!((stat.state, stat.parent), ('S', 1));
        assert_eq!((stat.threads, stat.started), (3, 4711));
        assert_eq!(parse_stat(b"7 (a) S 1"), None);
    }
}
