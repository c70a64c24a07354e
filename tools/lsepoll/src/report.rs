// SPDX-License-Identifier: GPL-2.0

//! The results of a search: names, what else holds a file, and which files are ready.

use crate::fdinfo::Entry;
use crate::held::{Held, Holds, Memory};
use crate::instance::{Row, State};
use crate::limits;
use crate::listing::Listing;
use crate::name::{self, printable};
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
    /// In how many of how many looks it was ready.
    pub looks: Option<(u32, u32)>,
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

impl Line {
    /// Whether epoll_wait(2) returned this entry each time, if the process handled no event.
    pub fn spins(&self) -> bool {
        let is_edge_triggered = self.row.entry.events & libc::EPOLLET as u32 != 0;
        !is_edge_triggered && self.looks.is_some_and(|(ready, looks)| ready == looks)
    }
}

impl Epoll {
    pub fn home(&self) -> &Table {
        &self.holders[0].table
    }

    /// The number of entries for which a condition holds.
    pub fn count(&self, has: impl Fn(&Line) -> bool) -> usize {
        self.lines.iter().filter(|line| has(line)).count()
    }

    pub fn in_state(&self, state: State) -> usize {
        self.count(|line| line.row.state == state)
    }
}

pub fn process(table: &Table) -> String {
    thread(table, table.tid)
}

pub fn thread(table: &Table, tid: i32) -> String {
    let (pid, comm) = (table.pid, printable(&table.comm));
    if tid == pid {
        format!("pid {pid} ({comm})")
    } else {
        format!("pid {pid} tid {tid} ({comm})")
    }
}

/// Formats places, with the process unless the fd table is `home`.
pub fn places(places: &[Place], home: &Table, limit: usize) -> String {
    let tables: Vec<_> = (places.chunk_by(|a, b| a.table.tid == b.table.tid)).collect();
    let mut named = Vec::new();
    for places in tables.iter().take(limit) {
        let table = &places[0].table;
        let fds: Vec<_> = places.iter().map(|place| place.fd.to_string()).collect();
        let fds = fds.join(", ");
        named.push(if table.tid == home.tid {
            format!("fd {fds}")
        } else {
            format!("{} fd {fds}", process(table))
        });
    }
    if tables.len() > limit {
        named.push(format!("{} more", tables.len() - limit));
    }
    named.join("; ")
}

/// A number and its noun.
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
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
                looks: None,
                data,
            });
        }
        Epoll { holders, lines }
    }

    /// Looks several times which files are ready.
    pub fn look_again(&mut self, epoll: &mut Epoll) {
        for look in 0..limits::LOOKS {
            if look > 0 {
                std::thread::sleep(limits::LOOK_PAUSE);
            }
            for line in &mut epoll.lines {
                let Some(place) = line.row.places.first() else {
                    continue;
                };
                let ready = self.poller.poll(place, line.row.entry.events);
                let (count, looks) = line.looks.get_or_insert((0, 0));
                *looks += 1;
                if ready.is_ready() {
                    *count += 1;
                    line.ready = ready;
                }
            }
        }
    }

    fn add_address(&mut self, name: &mut String, pid: Pid) {
        let inode = name::socket_inode(name);
        if let Some(address) = inode.and_then(|inode| self.sockets.address(pid, inode)) {
            name.push(' ');
            name.push_str(address);
        }
    }
}
