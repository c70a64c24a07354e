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
use std::slice;

/// Causes, in the order in which they are printed.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Cause {
    Spins,
    Moved,
    Inherited,
    Passed,
    Syscall,
    Mapping,
    Nowhere,
    Reused,
}

/// The likely causes, a line each, with the cure and the fds that it explains. The last line is how
/// to remove a stale entry by hand.
pub fn lines(shown: &[&Line], epoll: &Epoll) -> Vec<String> {
    let mut causes: BTreeMap<Cause, Vec<&Line>> = BTreeMap::new();
    for line in shown {
        for cause in causes_of(line, epoll) {
            causes.entry(cause).or_default().push(line);
        }
    }
    let mut lines: Vec<_> = (causes.iter())
        .map(|(cause, lines)| format!("{}: {}", fds(lines), explain(*cause, lines[0], epoll)))
        .collect();
    let repair = shown.iter().find_map(|line| repair(line, epoll));
    lines.extend(repair);
    lines
}

fn causes_of(line: &Line, epoll: &Epoll) -> Vec<Cause> {
    let row = &line.row;
    let mut causes = Vec::new();
    causes.extend(line.spins().then_some(Cause::Spins));
    match (row.state, row.places.first()) {
        (State::InPlace | State::Unsettled, _) => return causes,
        (State::Moved, _) => causes.push(Cause::Moved),
        (State::Elsewhere, Some(place)) if is_inherited(place, epoll) => {
            causes.push(Cause::Inherited);
        }
        (State::Elsewhere, _) => causes.push(Cause::Passed),
        (State::Nowhere, _) => causes.push(match line.held.first() {
            Some(Held::Syscall(..)) => Cause::Syscall,
            Some(Held::Mapping(..)) => Cause::Mapping,
            None => Cause::Nowhere,
        }),
    }
    causes.extend(line.reused.as_ref().map(|_| Cause::Reused));
    causes
}

fn explain(cause: Cause, line: &Line, epoll: &Epoll) -> String {
    let (row, home) = (&line.row, epoll.home());
    let place = |place: &Place| report::places(slice::from_ref(place), home, 1);
    let first = row.places.first();
    match cause {
        Cause::Spins => {
            let (ready, looks) = line.looks.unwrap_or_default();
            let events = match line.ready {
                Ready::Events(events) => events::names(events).join("|"),
                Ready::Unknown => String::new(),
            };
            let state = line.file.socket.as_ref().and_then(|socket| socket.state);
            let cure = match state {
                _ if line.is_stale() => "the process cannot remove the entry by this fd",
                Some("CLOSE_WAIT") => {
                    "the peer has closed the connection. Read until read(2) returns 0, then close it"
                }
                Some("CLOSE") => "the connection is gone. Close it",
                _ => "handle the event, or stop requesting it by EPOLL_CTL_MOD",
            };
            format!("ready ({events}) in {ready} of {looks} looks, so epoll_wait(2) returns at once: {cure}")
        }
        Cause::Moved => format!(
            "duplicated to {}, then closed: call EPOLL_CTL_DEL before close(2)",
            first.map(place).unwrap_or_default()
        ),
        Cause::Inherited => format!(
            "inherited by {}{}, then closed here: set close-on-exec, or call EPOLL_CTL_DEL before \
             close(2)",
            first.map(place).unwrap_or_default(),
            first.map(|place| since(&place.table)).unwrap_or_default()
        ),
        Cause::Passed => format!(
            "also open as {}, as if passed over a unix socket, then closed here: call EPOLL_CTL_DEL \
             before close(2)",
            first.map(place).unwrap_or_default()
        ),
        Cause::Syscall => "a system call in progress holds the file: it was closed meanwhile. Wake up \
             the thread before close(2), by shutdown(2) or a write"
            .to_string(),
        Cause::Mapping => "probably a mapping holds the file: call munmap(2) before close(2), or \
             EPOLL_CTL_DEL"
            .to_string(),
        Cause::Nowhere => "no fd was found: the file is in flight on a unix socket, registered with \
             io_uring, or held otherwise. It goes when that ends: call EPOLL_CTL_DEL before close(2)"
            .to_string(),
        Cause::Reused => "closed without EPOLL_CTL_DEL, and reused: EPOLL_CTL_DEL and EPOLL_CTL_MOD \
             of the fd do not reach this entry, and its events carry the old data"
            .to_string(),
    }
}

/// How to remove a stale entry: in a process that has the epoll file open, bring the file back to
/// the recorded fd, then EPOLL_CTL_DEL.
fn repair(line: &Line, epoll: &Epoll) -> Option<String> {
    let row = &line.row;
    let tfd = row.entry.tfd;
    let place = row.places.first().filter(|_| line.is_stale())?;
    let holder = |holder: &&Place| holder.table.tid == place.table.tid;
    let in_holder = epoll.holders.iter().find(holder);
    let holder = in_holder.unwrap_or(&epoll.holders[0]);
    let mut calls = Vec::new();
    let mut call = |text: String| calls.push(format!("-ex '{text}'"));
    // The fds of the file here, and of the file that has taken its place.
    let file = match in_holder {
        Some(_) => place.fd.to_string(),
        None => {
            let (open, get) = (libc::SYS_pidfd_open, libc::SYS_pidfd_getfd);
            call(format!(
                "set $p = (int)syscall({open}, {}, 0)",
                place.table.pid
            ));
            call(format!("set $f = (int)syscall({get}, $p, {}, 0)", place.fd));
            "$f".to_string()
        }
    };
    let is_open = holder.sibling(tfd).link().is_some();
    if is_open {
        call(format!("set $s = (int)dup({tfd})"));
    }
    call(format!("call (int)dup2({file}, {tfd})"));
    call(format!("call (int)epoll_ctl({}, 2, {tfd}, 0)", holder.fd));
    if is_open {
        call(format!("call (int)dup2($s, {tfd})"));
        call("call (int)close($s)".to_string());
    } else {
        call(format!("call (int)close({tfd})"));
    }
    if in_holder.is_none() {
        call("call (int)close($f)".to_string());
        call("call (int)close($p)".to_string());
    }
    let pid = holder.table.pid;
    Some(format!(
        "To remove the entry of fd {tfd} by hand: gdb -p {pid} -batch {}",
        calls.join(" ")
    ))
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
    format!("{noun} {}{more}", names.join(", "))
}

/// Whether a file is probably open at a place because a process was forked.
fn is_inherited(place: &Place, epoll: &Epoll) -> bool {
    let is_child = |holder: &Place| is_descendant(place.table.pid, holder.table.pid);
    epoll.holders.iter().any(is_child)
}

fn is_descendant(mut pid: Pid, of: Pid) -> bool {
    while pid > 1 && pid != of {
        pid = process::stat(pid).map_or(0, |stat| stat.parent);
    }
    pid == of
}

/// When a process was started.
fn since(table: &Table) -> String {
    match process::age(table) {
        None => String::new(),
        Some(age) if age < 120 => format!(", started {age} s ago"),
        Some(age) if age < 2 * 3600 => format!(", started {} min ago", age / 60),
        Some(age) => format!(", started {} h ago", age / 3600),
    }
}
