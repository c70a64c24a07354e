// SPDX-License-Identifier: GPL-2.0

//! Processes, their fd tables, and their files.

use crate::error::Error;
use crate::kcmp;
use crate::progress::Progress;
use std::collections::HashSet;
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
    pub comm: String,
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
            comm: String::new(),
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
    /// The target of the link in /proc; `None` if the fd is not open.
    pub fn link(&self) -> Option<String> {
        self.read_link().ok()
    }

    fn read_link(&self) -> io::Result<String> {
        let link = fs::read_link(self.path("fd"))?;
        Ok(link.to_string_lossy().into_owned())
    }

    pub fn path(&self, directory: &str) -> String {
        format!("/proc/{}/{directory}/{}", self.table.tid, self.fd)
    }

    /// Another fd of the same table.
    pub fn sibling(&self, fd: Fd) -> Place {
        Place {
            table: self.table.clone(),
            fd,
        }
    }
}

/// All files of all processes that the caller may inspect.
#[derive(Default)]
pub struct Listing {
    /// The files, each with its [`Place::link`].
    pub files: Vec<(Place, String)>,
    /// The fd tables in which files were closed while they were listed.
    pub restless: HashSet<Pid>,
    pub processes: usize,
    /// The number of processes that the caller may not inspect.
    pub not_permitted: usize,
}

/// The fields of /proc/PID/stat that are used here.
#[derive(Debug, Eq, PartialEq)]
pub struct Stat {
    pub comm: String,
    pub kernel_thread: bool,
    pub threads: u64,
    pub started: u64,
}

const PF_KTHREAD: u64 = 0x0020_0000;

pub fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.split_once('(')?;
    // The name may contain parentheses, the rest does not.
    let (comm, rest) = rest.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // See proc_pid_stat(5), where the state, which is first here, is field 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        comm: comm.to_string(),
        kernel_thread: number(9)? & PF_KTHREAD != 0,
        threads: number(20)?,
        started: number(22)?,
    })
}

fn stat(pid: Pid) -> io::Result<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&String::from_utf8_lossy(&text)).ok_or(ErrorKind::InvalidData.into())
}

/// The entries of a directory whose names are numbers.
fn numbers(directory: &str) -> io::Result<Vec<i32>> {
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

/// The process that a pid or a tid belongs to.
pub fn process_of(pid: Pid) -> Result<Pid, Error> {
    let status = match fs::read(format!("/proc/{pid}/status")) {
        Ok(status) => status,
        Err(e) if is_not_permitted(&e) => return Err(Error::HiddenProcess(pid)),
        Err(_) if is_alive(pid) => return Err(Error::HiddenProcess(pid)),
        Err(_) => return Err(Error::NoProcess(pid)),
    };
    let process = String::from_utf8_lossy(&status)
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
        .ok_or(Error::NoProcess(pid))?;
    match list_process(process, &mut Listing::default()) {
        Err(e) if is_not_permitted(&e) => Err(Error::NotPermitted(pid)),
        Err(_) => Err(Error::NoProcess(pid)),
        Ok(_) => Ok(process),
    }
}

/// Whether a process exists, visible in /proc or not.
fn is_alive(pid: Pid) -> bool {
    // SAFETY: No memory is involved, and no signal is sent.
    let sent = unsafe { libc::kill(pid, 0) };
    sent == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Lists all files but those of process `own`.
pub fn list(own: Pid, progress: &mut Progress) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    let pids = numbers("/proc").map_err(|e| Error::Io("/proc", e))?;
    progress.begin("listing files", pids.len());
    for pid in pids {
        progress.step();
        if pid == own {
            continue;
        }
        match list_process(pid, &mut listing) {
            Ok(true) => listing.processes += 1,
            Ok(false) => {}
            Err(e) if is_not_permitted(&e) => listing.not_permitted += 1,
            // The process has ended meanwhile.
            Err(_) => {}
        }
    }
    Ok(listing)
}

fn is_not_permitted(error: &io::Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied
}

/// Appends the files of a process. Returns false for a kernel thread, which has none.
fn list_process(pid: Pid, listing: &mut Listing) -> io::Result<bool> {
    let tables = tables_of(pid)?;
    for table in &tables {
        match list_table(table) {
            Ok((files, is_restless)) => {
                listing.files.extend(files);
                if is_restless {
                    listing.restless.insert(table.tid);
                }
            }
            Err(e) if is_not_permitted(&e) => return Err(e),
            // A thread has ended; the others may still have files.
            Err(_) => {}
        }
    }
    Ok(!tables.is_empty())
}

/// The fd tables of all processes but `own`.
pub fn tables(own: Pid) -> Result<Vec<Rc<Table>>, Error> {
    let pids = numbers("/proc").map_err(|e| Error::Io("/proc", e))?;
    let others = pids.into_iter().filter(|pid| *pid != own);
    // A process may have ended meanwhile.
    Ok(others
        .filter_map(|pid| tables_of(pid).ok())
        .flatten()
        .collect())
}

/// The fd tables of a process. A kernel thread has none.
fn tables_of(pid: Pid) -> io::Result<Vec<Rc<Table>>> {
    let stat = stat(pid)?;
    if stat.kernel_thread {
        return Ok(Vec::new());
    }
    let mut tids = vec![pid];
    if stat.threads > 1 {
        for tid in numbers(&format!("/proc/{pid}/task"))? {
            // A thread that ends meanwhile has no files.
            let is_known = |known: &Pid| kcmp::same_table(*known, tid).unwrap_or(true);
            if !tids.iter().any(is_known) {
                tids.push(tid);
            }
        }
    }
    let table = |tid| {
        Rc::new(Table {
            pid,
            tid,
            comm: stat.comm.clone(),
            started: stat.started,
        })
    };
    Ok(tids.into_iter().map(table).collect())
}

/// The files of an fd table, each with its [`Place::link`], and whether any was closed meanwhile.
pub fn list_table(table: &Rc<Table>) -> io::Result<(Vec<(Place, String)>, bool)> {
    let mut files = Vec::new();
    let mut is_restless = false;
    for fd in numbers(&format!("/proc/{}/fd", table.tid))? {
        let place = Place {
            table: table.clone(),
            fd,
        };
        match place.read_link() {
            Ok(link) => files.push((place, link)),
            // In a user namespace, lsepoll may be able to list the fds of a process outside, but
            // not to read the links.
            Err(e) if is_not_permitted(&e) => return Err(e),
            Err(_) => is_restless = true,
        }
    }
    Ok((files, is_restless))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_an_odd_name() {
        let text = "7 (a) b\n) S 1 7 7 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 3 0 4711 0 0\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!(stat.comm, "a) b\n");
        assert!(stat.kernel_thread);
        assert_eq!((stat.threads, stat.started), (3, 4711));
        assert_eq!(parse_stat("7 (a) S 1"), None);
    }
}
