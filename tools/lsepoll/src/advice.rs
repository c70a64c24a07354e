// SPDX-License-Identifier: GPL-2.0

//! Why entries are stale or always ready, and what to do about it.

use crate::events;
use crate::held::Held;
use crate::instance::State;
use crate::limits;
use crate::process::{self, Fd, Pid, Place, Table};
use crate::ready::Ready;
use crate::report::{self, Epoll, Line};
use std::collections::BTreeMap;
use std::fs;
use std::slice;

/// Causes, in the order in which they are printed.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Cause {
    Spins,
    /// In place, but not in the process of the heading.
    OtherHolder,
    Moved,
    Inherited(Relation),
    Passed,
    Syscall,
    Mapping,
    Nowhere,
    Reused,
}

/// The likely causes, a line each, with the cure and the fds that it explains.
pub fn causes(shown: &[&Line], epoll: &Epoll) -> Vec<String> {
    // Lines that differ only in the place are one.
    let mut causes: BTreeMap<(Cause, String), Vec<&Line>> = BTreeMap::new();
    for line in shown {
        for cause in causes_of(line, epoll) {
            let text = explain(cause, line, None, epoll);
            causes.entry((cause, text)).or_default().push(line);
        }
    }
    (causes.iter())
        .map(|((cause, _), lines)| {
            let text = explain(*cause, lines[0], common_place(lines, epoll), epoll);
            format!("{}: {text}", fds(lines))
        })
        .collect()
}

fn causes_of(line: &Line, epoll: &Epoll) -> Vec<Cause> {
    let row = &line.row;
    let mut causes = Vec::new();
    causes.extend(line.spins().then_some(Cause::Spins));
    match (row.state, row.places.first()) {
        (State::InPlace, _) => {
            let is_other = line.ready.is_ready() && !is_in_home(line, epoll);
            causes.extend(is_other.then_some(Cause::OtherHolder));
            return causes;
        }
        (State::Unsettled, _) => return causes,
        (State::Moved, _) => causes.push(Cause::Moved),
        (State::Elsewhere, Some(place)) => {
            let relation = relation(place, row.entry.tfd, epoll);
            causes.push(relation.map_or(Cause::Passed, Cause::Inherited));
        }
        (State::Elsewhere, None) => {}
        (State::Nowhere, _) => causes.push(match line.held.first() {
            // It may wait for the file that has taken the fd.
            Some(Held::Syscall(..)) if line.reused.is_some() => Cause::Nowhere,
            Some(Held::Syscall(..)) => Cause::Syscall,
            Some(Held::Mapping(..)) => Cause::Mapping,
            None => Cause::Nowhere,
        }),
    }
    causes.extend(line.reused.as_ref().map(|_| Cause::Reused));
    causes
}

/// Whether the file is open in the process of the heading.
fn is_in_home(line: &Line, epoll: &Epoll) -> bool {
    let mut places = line.row.places.iter();
    places.any(|place| place.table.tid == epoll.home().tid)
}

/// The first place of these entries if it is the same, or else the process.
fn common_place(lines: &[&Line], epoll: &Epoll) -> Option<String> {
    let home = epoll.home();
    let places: Option<Vec<_>> = lines.iter().map(|line| line.row.places.first()).collect();
    let places = places?;
    let first = places[0];
    if places
        .iter()
        .any(|place| place.table.tid != first.table.tid)
    {
        None
    } else if places.iter().all(|place| place.fd == first.fd) {
        Some(report::places(slice::from_ref(first), home, 1))
    } else {
        (first.table.tid != home.tid).then(|| report::process(&first.table))
    }
}

/// `place` is where the files of all entries with this cause are open.
fn explain(cause: Cause, line: &Line, place: Option<String>, epoll: &Epoll) -> String {
    let (row, home) = (&line.row, epoll.home());
    let first = row.places.first();
    let has_place = place.is_some();
    let place = place.unwrap_or_else(|| "other fds (see WHERE)".to_string());
    match cause {
        Cause::Spins => {
            let (ready, looks) = line.looks.unwrap_or_default();
            let events = match line.ready {
                Ready::Events(events) => events,
                Ready::Unknown => 0,
            };
            let cure = match is_in_home(line, epoll) && !line.is_stale() {
                true => cure(line, events),
                false => "the process cannot remove the entry by this fd",
            };
            let events = events::names(events).join("|");
            format!(
                "ready ({events}) in {ready} of {looks} looks, so epoll_wait(2) returns at \
                 once: {cure}"
            )
        }
        Cause::OtherHolder => format!(
            "open as {place}, but not under this fd in {}, which gets the events, too, and can \
             neither handle nor remove them: call EPOLL_CTL_DEL before close(2), and create the \
             epoll instance after fork(2)",
            report::process(home)
        ),
        Cause::Moved => {
            format!("duplicated to {place}, then closed: call EPOLL_CTL_DEL before close(2)")
        }
        Cause::Inherited(relation) => {
            let (relation, age) = match relation {
                Relation::Child => ("inherited by", true),
                Relation::ChildWithOtherFd => ("inherited by, or passed to,", true),
                Relation::Family => ("shared by fork(2) with", false),
            };
            let since = first.filter(|_| age && has_place);
            format!(
                "{relation} {place}{}, then closed here: set close-on-exec, or call EPOLL_CTL_DEL \
                 before close(2)",
                since
                    .map(|place| since_start(&place.table))
                    .unwrap_or_default()
            )
        }
        Cause::Passed => format!(
            "also open as {place}, as if passed over a unix socket, then closed here: call \
             EPOLL_CTL_DEL before close(2)"
        ),
        Cause::Syscall => {
            "a system call in progress holds the file: it was closed meanwhile. Wake \
             up the thread before close(2), by shutdown(2) or a write"
                .to_string()
        }
        Cause::Mapping => "probably a mapping holds the file: call munmap(2) before close(2), or \
             EPOLL_CTL_DEL"
            .to_string(),
        Cause::Nowhere => "no fd was found: the file is in flight on a unix socket, registered \
             with io_uring, or held otherwise. It goes when that ends: call EPOLL_CTL_DEL before \
             close(2)"
            .to_string(),
        Cause::Reused => "closed without EPOLL_CTL_DEL, and reused: EPOLL_CTL_DEL and \
             EPOLL_CTL_MOD of the fd do not reach this entry, and its events carry the old data"
            .to_string(),
    }
}

/// What to do about a file that is always ready.
fn cure(line: &Line, events: u32) -> &'static str {
    let has = |event: i32| events & event as u32 != 0;
    let socket = line.file.socket.as_ref();
    let is_unconnected = socket.is_some_and(|it| it.local.is_none() && it.remote.is_none());
    match socket.and_then(|socket| socket.state) {
        Some("CLOSE") if is_unconnected => "it is not connected: add it after connect(2)",
        Some("CLOSE") => "the connection is gone. Close it",
        Some("CLOSE_WAIT") if has(libc::EPOLLIN | libc::EPOLLRDHUP) => {
            "the peer has sent FIN. Read until read(2) returns 0, then close it"
        }
        _ if has(libc::EPOLLHUP | libc::EPOLLERR) => {
            "the other end is closed, or there was an error. EPOLL_CTL_MOD does not mask this: \
             close it after EPOLL_CTL_DEL"
        }
        _ if !has(libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLRDHUP) => {
            "request OUT only while there is something to write"
        }
        _ => "handle the event, or stop requesting it by EPOLL_CTL_MOD",
    }
}

/// How to remove the first stale entry: in a process that has the epoll file open, bring the file
/// back to the recorded fd, then EPOLL_CTL_DEL. Returns a heading and a command.
///
/// Time passes before anybody runs the command. So gdb checks then whether the fd is open, and
/// calls nothing else if a call that is needed has failed. Other threads must not see this.
pub fn repair(shown: &[&Line], epoll: &Epoll) -> Option<(String, String)> {
    let (line, place) = (shown.iter())
        .filter(|line| line.is_stale())
        .find_map(|line| Some((line, line.row.places.first()?)))?;
    let tfd = line.row.entry.tfd;
    let holder = |holder: &&Place| holder.table.tid == place.table.tid;
    let in_holder = epoll.holders.iter().find(holder);
    let holder = in_holder.unwrap_or(&epoll.holders[0]);
    let pid = holder.table.pid;
    let mut calls = String::new();
    let mut call = |text: String| calls.push_str(&format!(" -ex '{text}'"));
    call("set scheduler-locking on".to_string());
    let file = match in_holder {
        Some(_) => place.fd.to_string(),
        // There, the other process has another PID, or none.
        None if !has_same_pids(pid, place.table.pid) => return None,
        None => {
            let (open, get) = (libc::SYS_pidfd_open, libc::SYS_pidfd_getfd);
            let of = place.table.pid;
            call(format!("set $p = (int)syscall({open}, {of}, 0)"));
            call(format!("set $f = (int)syscall({get}, $p, {}, 0)", place.fd));
            "$f".to_string()
        }
    };
    // What is open there now. dup() also fails if there are too many files.
    call(format!("set $o = (int)fcntl({tfd}, {})", libc::F_GETFD));
    call(format!("set $s = (int)dup({tfd})"));
    call(format!(
        "set $r = $s >= 0 || $o < 0 ? (int)dup2({file}, {tfd}) : -1"
    ));
    call(format!(
        "call $r == {tfd} ? (int)epoll_ctl({}, {}, {tfd}, 0) : -1",
        holder.fd,
        libc::EPOLL_CTL_DEL
    ));
    call(format!(
        "call $r != {tfd} ? -1 : $s >= 0 ? (int)dup2($s, {tfd}) : (int)close({tfd})"
    ));
    let copies = match in_holder {
        Some(_) => &["$s"][..],
        None => &["$s", "$f", "$p"],
    };
    for fd in copies {
        call(format!("call {fd} >= 0 ? (int)close({fd}) : -1"));
    }
    Some((
        format!("To remove the entry of fd {tfd} by hand:"),
        format!("gdb -p {pid} -batch{calls}"),
    ))
}

/// Whether two processes are in the PID namespace of lsepoll, or the kernel has only one.
fn has_same_pids(a: Pid, b: Pid) -> bool {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace("self");
    [a, b].iter().all(|pid| namespace(&pid.to_string()) == own)
}

/// "fd 60", or "fds 60, 61, 62, 63 and 5 more".
fn fds(lines: &[&Line]) -> String {
    let mut fds: Vec<Fd> = lines.iter().map(|line| line.row.entry.tfd).collect();
    fds.dedup();
    let names: Vec<_> = fds.iter().take(limits::FEW).map(Fd::to_string).collect();
    let noun = if fds.len() == 1 { "fd" } else { "fds" };
    let more = match fds.len().saturating_sub(limits::FEW) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let entries = match lines.len() {
        entries if entries > fds.len() => format!(" ({entries} entries)"),
        _ => String::new(),
    };
    format!("{noun} {}{more}{entries}", names.join(", "))
}

/// How the process of a place is related to one that has the epoll file open.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Relation {
    Child,
    ChildWithOtherFd,
    /// A parent, or another child of it.
    Family,
}

/// Whether a file is probably open at a place because a process was forked.
fn relation(place: &Place, tfd: Fd, epoll: &Epoll) -> Option<Relation> {
    let pid = place.table.pid;
    let holders = || epoll.holders.iter().map(|holder| holder.table.pid);
    let is_same_fd = place.fd == tfd;
    if holders().any(|holder| is_descendant(pid, holder)) {
        Some(match is_same_fd {
            true => Relation::Child,
            false => Relation::ChildWithOtherFd,
        })
    } else {
        let is_family = |holder| is_descendant(holder, pid) || is_sibling(holder, pid);
        (is_same_fd && holders().any(is_family)).then_some(Relation::Family)
    }
}

fn parent(pid: Pid) -> Pid {
    process::stat(pid).map_or(0, |stat| stat.parent)
}

/// Whether they have a parent other than init.
fn is_sibling(a: Pid, b: Pid) -> bool {
    parent(a) > 1 && parent(a) == parent(b)
}

fn is_descendant(mut pid: Pid, of: Pid) -> bool {
    while pid > 1 && pid != of {
        pid = parent(pid);
    }
    pid == of
}

/// When a process was started.
fn since_start(table: &Table) -> String {
    match process::age(table) {
        None => String::new(),
        Some(age) if age < 120 => format!(", started {age} s ago"),
        Some(age) if age < 2 * 3600 => format!(", started {} min ago", age / 60),
        Some(age) => format!(", started {} h ago", age / 3600),
    }
}
