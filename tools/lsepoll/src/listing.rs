// SPDX-License-Identifier: GPL-2.0

//! Lists the files of all processes, and tells which processes have not run since.

use crate::control::Control;
use crate::error::Error;
use crate::kcmp;
use crate::limits;
use crate::process::{self, Fd, Pid, Place, Table, is_not_permitted, numbers};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::rc::Rc;

/// When a process was started, how often each of its threads has run, and for how long. Only a
/// process that runs opens or closes files.
type Activity = (u64, Vec<(Pid, String)>);

/// `None` if the process is running, or if the kernel does not tell.
fn activity(pid: Pid, started: u64) -> Option<Activity> {
    let mut threads = Vec::new();
    for tid in numbers(&format!("/proc/{pid}/task")).ok()? {
        let run = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
        // The times of a thread that is running are not up to date.
        let stat = process::stat(tid).ok()?;
        let is_other = tid == pid && stat.started != started;
        if is_other || stat.state == 'R' || run.starts_with("0 0 0") {
            return None;
        }
        threads.push((tid, run));
    }
    Some((started, threads))
}

/// The files of one process.
struct Process {
    tables: Vec<Listed>,
    /// Before the files were listed.
    activity: Option<Activity>,
}

/// The files in one fd table.
#[derive(Clone)]
pub struct Listed {
    pub table: Rc<Table>,
    /// Each file with its [`Place::link`].
    pub files: Vec<(Fd, String)>,
    /// Whether files vanished before their link could be read, even when listed again.
    pub is_restless: bool,
}

impl Listed {
    pub fn places(&self) -> impl Iterator<Item = (Place, &str)> {
        (self.files.iter()).map(|(fd, link)| (Place::new(&self.table, *fd), link.as_str()))
    }
}

/// All files of all processes that the caller may inspect.
pub struct Listing {
    own: Pid,
    processes: BTreeMap<Pid, Process>,
    /// Processes that the caller may not inspect.
    pub not_inspected: Vec<Rc<Table>>,
}

impl Listing {
    /// Nothing is listed yet. Process `own` is left out.
    pub fn new(own: Pid) -> Listing {
        Listing {
            own,
            processes: BTreeMap::new(),
            not_inspected: Vec::new(),
        }
    }

    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    pub fn tables(&self) -> impl Iterator<Item = &Listed> {
        self.processes.values().flat_map(|process| &process.tables)
    }

    /// All fd tables of a process.
    pub fn of_process(&self, pid: Pid) -> impl Iterator<Item = &Listed> {
        let process = self.processes.get(&pid);
        process.into_iter().flat_map(|process| &process.tables)
    }

    /// Lists the files of processes that may have changed since the last time. `look` is called
    /// with the old and new files of each fd table that was listed again, at once, before files can
    /// move on; it returns false if files had gone, to have it listed again.
    ///
    /// Returns the fd tables that were listed.
    pub fn update(
        &mut self,
        control: &mut Control,
        mut look: impl FnMut(Option<&Listed>, &Listed) -> Result<bool, Error>,
    ) -> Result<HashSet<Pid>, Error> {
        let mut pids = numbers("/proc").map_err(|e| Error::Io("/proc", e))?;
        pids.sort_unstable();
        control.begin("listing files", pids.len());
        let mut before = std::mem::take(&mut self.processes);
        let not_inspected = std::mem::take(&mut self.not_inspected);
        let mut listed = HashSet::new();
        for pid in &pids {
            if !control.step() {
                // The rest stays as it was.
                self.processes.append(&mut before);
                let rest = not_inspected.into_iter().filter(|table| table.pid >= *pid);
                self.not_inspected.extend(rest);
                break;
            }
            if *pid == self.own {
                continue;
            }
            let process = before.remove(pid);
            match list_process(*pid, process, &mut look) {
                Ok(Some((process, is_new))) => {
                    if is_new {
                        listed.extend(process.tables.iter().map(|listed| listed.table.tid));
                    }
                    self.processes.insert(*pid, process);
                }
                Ok(None) => {}
                Err(Error::NotPermitted(pid)) => self.not_inspected.extend(table_of(pid)),
                // The process has ended meanwhile.
                Err(Error::NoProcess(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(listed)
    }
}

/// A process that cannot be inspected.
pub fn table_of(pid: Pid) -> Option<Rc<Table>> {
    let stat = process::stat(pid).ok()?;
    // A process that is about to end cannot be inspected, and has no files any more.
    let is_there = !matches!(stat.state, 'Z' | 'X');
    is_there.then(|| stat.table(pid, pid))
}

type Look<'a> = dyn FnMut(Option<&Listed>, &Listed) -> Result<bool, Error> + 'a;

/// Lists the files of a process, unless it has not run since the last time. Returns `None` for a
/// kernel thread, which has none, and else whether the files were listed.
fn list_process(
    pid: Pid,
    before: Option<Process>,
    look: &mut Look<'_>,
) -> Result<Option<(Process, bool)>, Error> {
    let error = |e| match is_not_permitted(&e) {
        true => Error::NotPermitted(pid),
        false => Error::NoProcess(pid),
    };
    let stat = process::stat(pid).map_err(error)?;
    if stat.kernel_thread {
        return Ok(None);
    }
    let activity = activity(pid, stat.started);
    let mut before = match before {
        Some(before) if activity.is_some() && activity == before.activity => {
            return Ok(Some((before, false)));
        }
        before => before.map_or(Vec::new(), |process| process.tables),
    };
    before.retain(|old| old.table.started == stat.started);
    let mut tables = Vec::new();
    for table in tables_of(pid, stat).map_err(error)? {
        let old = before.iter().position(|old| old.table.tid == table.tid);
        let mut old = old.map(|old| before.swap_remove(old));
        for tries in 1..=limits::LISTINGS {
            let listed = match list_table(&table) {
                Ok(listed) => listed,
                Err(e) if is_not_permitted(&e) => return Err(error(e)),
                // A thread without files.
                Err(_) => break,
            };
            if look(old.as_ref(), &listed)? || tries == limits::LISTINGS {
                tables.push(listed);
                break;
            }
            old = Some(listed);
        }
    }
    Ok(Some((Process { tables, activity }, true)))
}

/// The fd tables of the threads of a process.
fn tables_of(pid: Pid, stat: process::Stat) -> io::Result<Vec<Rc<Table>>> {
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
    Ok(tids.into_iter().map(|tid| stat.table(pid, tid)).collect())
}

/// Lists the files in an fd table. Looks again for files that vanish before their link is read: they
/// may have moved to another fd.
fn list_table(table: &Rc<Table>) -> io::Result<Listed> {
    let directory = format!("/proc/{}/fd", table.tid);
    let mut files = BTreeMap::new();
    let mut is_restless = true;
    for _ in 0..limits::LISTINGS {
        is_restless = false;
        for fd in numbers(&directory)? {
            if files.contains_key(&fd) {
                continue;
            }
            match Place::new(table, fd).read_link() {
                Ok(link) => drop(files.insert(fd, link)),
                // In a user namespace, lsepoll may be able to list the fds of a process outside,
                // but not to read the links.
                Err(e) if is_not_permitted(&e) => return Err(e),
                Err(_) => is_restless = true,
            }
        }
        if !is_restless {
            break;
        }
    }
    Ok(Listed {
        table: table.clone(),
        files: files.into_iter().collect(),
        is_restless,
    })
}

/// Whether the caller may inspect a process, and why not.
pub fn check(pid: Pid) -> Result<(), Error> {
    let stat = process::stat(pid).map_err(|_| Error::NoProcess(pid))?;
    if stat.is_zombie() {
        return Err(Error::Zombie(pid));
    }
    list_process(pid, None, &mut |_, _| Ok(true)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn keeps_what_is_not_listed_again() {
        let mut listing = Listing::new(0);
        let look = |_: Option<&Listed>, _: &Listed| Ok(true);
        let mut on = Control::new(None);
        assert!(!listing.update(&mut on, look).unwrap().is_empty());
        let before = (listing.processes(), listing.not_inspected.len());
        let mut over = Control::new(Some(Duration::ZERO));
        assert!(listing.update(&mut over, look).unwrap().is_empty());
        assert_eq!((listing.processes(), listing.not_inspected.len()), before);
    }
}
