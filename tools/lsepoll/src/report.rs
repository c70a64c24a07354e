// SPDX-License-Identifier: GPL-2.0

//! The results of a search: names, what else holds a file, and which files are ready.

use crate::fdinfo::Entry;
use crate::held::{Held, Holds, Memory};
use crate::instance::{Found, Row, State};
use crate::limits;
use crate::listing::Listing;
use crate::name::{File, Names};
use crate::process::{Place, Table};
use crate::ready::{Poller, Ready};

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
    /// The target file.
    pub file: File,
    /// If the entry is stale: where its fd refers to another file, and that file.
    pub reused: Option<(Place, File)>,
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
        // Programs that store an int may leave the other half as it was.
        if entry.data as u32 == entry.tfd as u32 {
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
    let (pid, comm) = (table.pid, &table.comm);
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
    names: Option<Names>,
    poller: Poller,
    holds: Holds,
}

impl Reporter {
    pub fn report(&mut self, Found { holders, rows }: Found, listing: &Listing) -> Epoll {
        let memory = Memory::of(holders[0].table.pid);
        let mut lines = Vec::new();
        let names = self
            .names
            .get_or_insert_with(|| Names::new(listing.tables().flat_map(|listed| listed.places())));
        // Unless another file is there by now.
        let describe = |names: &mut Names, place: &Place, name: &str| {
            let file = names.file(place).filter(|file| file.identity() == name);
            file.unwrap_or_else(|| File::new(name.to_string().into()))
        };
        for row in rows {
            let reused = (row.reused.as_ref())
                .map(|(place, name)| (place.clone(), describe(names, place, name)));
            let file = match row.places.first() {
                Some(place) => describe(names, place, &row.file),
                None => names.target(&row.file, row.entry.device, holders[0].table.pid),
            };
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
                file,
                reused,
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
}
