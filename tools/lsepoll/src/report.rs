// SPDX-License-Identifier: GPL-2.0

//! The results of a search: names, what else holds a file, and which files are ready.

use crate::fdinfo::Entry;
use crate::held::{Held, Holds, Memory};
use crate::instance::{Row, State};
use crate::listing::Listing;
use crate::name;
use crate::process::{Pid, Place, Table};
use crate::ready::{Poller, Ready};
use crate::search::Found;
use crate::sockets::Sockets;

/// An epoll file.
pub struct Epoll {
    /// Where it is open: the oldest of the selected processes first.
    pub holders: Vec<Place>,
    /// One for each entry.
    pub lines: Vec<Line>,
}

/// An entry.
pub struct Line {
    pub row: Row,
    /// If it is nowhere: what seems to hold the target file.
    pub held: Vec<Held>,
    pub ready: Ready,
    pub data: Data,
}

/// What the data of an entry seems to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Data {
    /// The fd under which the file was added.
    Fd,
    /// The address of memory of the process.
    Pointer,
    Other,
}

impl Data {
    fn of(entry: &Entry, memory: &Memory) -> Data {
        if entry.data == entry.tfd as u64 {
            Data::Fd
        } else if memory.has(entry.data) {
            Data::Pointer
        } else {
            Data::Other
        }
    }
}

impl Line {
    pub fn is_stale(&self) -> bool {
        matches!(
            self.row.state,
            State::Moved | State::Elsewhere | State::Nowhere
        )
    }
}

impl Epoll {
    pub fn home(&self) -> &Table {
        &self.holders[0].table
    }

    pub fn count(&self, has: impl Fn(&Line) -> bool) -> usize {
        self.lines.iter().filter(|line| has(line)).count()
    }

    pub fn in_state(&self, state: State) -> usize {
        self.count(|line| line.row.state == state)
    }
}

/// Makes reports.
#[derive(Default)]
pub struct Reporter {
    sockets: Sockets,
    poller: Poller,
    holds: Holds,
}

impl Reporter {
    pub fn report(&mut self, Found { holders, rows }: Found, listing: &Listing) -> Epoll {
        let memory = Memory::of(holders[0].table.pid);
        let mut lines = Vec::new();
        for mut row in rows {
            let home = holders[0].table.pid;
            // The process that has the socket open is usually in its network namespace.
            let pid = row.places.first().map_or(home, |place| place.table.pid);
            self.add_address(&mut row.file, pid);
            if let Some((place, name)) = &mut row.reused {
                self.add_address(name, place.table.pid);
            }
            let held = match row.state {
                State::Nowhere => self.holds.find(&row.entry, &holders, listing),
                _ => Vec::new(),
            };
            let ready = match row.places.first() {
                Some(place) => self.poller.poll(place, row.entry.events),
                None => Ready::Unknown,
            };
            let data = Data::of(&row.entry, &memory);
            lines.push(Line {
                row,
                held,
                ready,
                data,
            });
        }
        Epoll { holders, lines }
    }

    fn add_address(&mut self, name: &mut String, pid: Pid) {
        let inode = name::socket_inode(name);
        if let Some(address) = inode.and_then(|inode| self.sockets.address(pid, inode)) {
            name.push(' ');
            name.push_str(address);
        }
    }
}
