// SPDX-License-Identifier: GPL-2.0

//! What a run of lsepoll has found, and its exit status.

use crate::instance::State;
use crate::limits;
use crate::process;
use crate::report::{Epoll, Line, count};
use crate::search::Searched;

/// An entry is printed, and the user has asked for those that are stale or ready.
const FOUND: u8 = 1;
pub const FAILED: u8 = 2;
/// Not everything was looked at.
const INCOMPLETE: u8 = 3;
/// As if SIGINT had ended lsepoll.
const INTERRUPTED: u8 = 130;

/// The epoll instances of a run in numbers.
#[derive(Default)]
pub struct Summary {
    pub instances: usize,
    pub entries: usize,
    pub stale: usize,
    pub nowhere: usize,
    pub unsettled: usize,
    pub ready: usize,
    pub searched: Searched,
    pub is_late: bool,
    pub is_interrupted: bool,
}

impl Summary {
    pub fn add(&mut self, epoll: &Epoll) {
        self.instances += 1;
        self.entries += epoll.lines.len();
        self.stale += epoll.count(Line::is_stale);
        self.nowhere += epoll.in_state(State::Nowhere);
        self.ready += epoll.count(|line| line.ready.is_ready());
        self.unsettled += epoll.in_state(State::Unsettled);
    }

    /// Whether everything that was selected was looked at, and settled.
    pub fn is_complete(&self) -> bool {
        let Searched {
            not_inspected,
            missed,
            hidden,
            errors,
            ..
        } = &self.searched;
        let is_cut = self.is_late || self.is_interrupted || !errors.is_empty();
        // A file that is nowhere may be open in a process that could not be inspected.
        let is_hidden = self.nowhere > 0 && (*hidden || !not_inspected.is_empty());
        !is_cut && self.unsettled == 0 && *missed == 0 && !is_hidden
    }

    /// `is_found`: whether an entry was found that the user has looked for.
    pub fn status(&self, is_found: bool) -> u8 {
        if self.is_interrupted {
            INTERRUPTED
        } else if !self.searched.errors.is_empty() {
            FAILED
        } else if is_found {
            FOUND
        } else if !self.is_complete() {
            INCOMPLETE
        } else {
            0
        }
    }

    /// The notes for stderr. `is_narrowed` says whether the user selected processes.
    pub fn notes(&self, is_narrowed: bool) -> Vec<String> {
        let Searched {
            processes,
            not_inspected,
            missed,
            hidden,
            rounds,
            errors,
            ..
        } = &self.searched;
        let mut notes = Vec::new();
        if self.instances == 0 && errors.is_empty() {
            notes.push("no epoll instance found".to_string());
        }
        if self.nowhere > 0 {
            let nowhere = count(self.nowhere, "entry is", "entries are");
            let searched = count(*processes, "process", "processes");
            notes.push(format!(
                "{nowhere} nowhere in {searched}: something else than an fd holds the file, such \
                 as a message in flight on a unix socket, io_uring, a system call in progress, a \
                 mapping, or the kernel; or an fd does in a process that was not inspected"
            ));
        }
        if self.unsettled > 0 {
            let unsettled = count(self.unsettled, "entry is", "entries are");
            notes.push(if self.is_interrupted {
                format!("{unsettled} unsettled: interrupted")
            } else if self.is_late {
                format!("{unsettled} unsettled: the time was over")
            } else {
                format!(
                    "{unsettled} unsettled: the entry, or files that could be its target, kept \
                     changing during {}: stop the processes by SIGSTOP to settle it",
                    count(*rounds as usize, "round", "rounds")
                )
            });
        } else if self.is_late {
            notes.push("the time was over before all processes were listed".to_string());
        }
        if *missed > 0 || (self.nowhere > 0 && !not_inspected.is_empty()) {
            let mut names: Vec<_> = (not_inspected.iter().take(limits::FEW))
                .map(|table| format!("{} ({})", table.pid, table.comm))
                .collect();
            if not_inspected.len() > limits::FEW {
                names.push(format!("{} more", not_inspected.len() - limits::FEW));
            }
            let why = if process::may_ptrace() {
                "probably a security module forbids it, or the user namespace of the process is \
                 not below that of lsepoll"
            } else {
                "this requires root or CAP_SYS_PTRACE"
            };
            notes.push(format!("could not inspect pid {}: {why}", names.join(", ")));
        }
        if *hidden && (!is_narrowed || self.nowhere > 0) {
            notes.push("/proc hides processes: it is mounted with hidepid".to_string());
        }
        notes
    }
}
