// SPDX-License-Identifier: GPL-2.0

//! An epoll instance under observation.
//!
//! Processes keep running meanwhile. So /proc is read before and after each comparison: fdinfo for
//! an entry, the link for a file. If these differ, the result is dropped, and the comparison is
//! repeated in the next round.

use crate::control::Control;
use crate::error::Error;
use crate::fdinfo::{self, Entry};
use crate::files::{self, Index, Key, Kinds};
use crate::kcmp::{self, ask};
use crate::limits;
use crate::name;
use crate::order::Answer;
use crate::process::{Fd, Pid, Place};
use clap::ValueEnum;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

/// Where the target file of an entry is. Ordered from near to far.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd, Ord, ValueEnum)]
pub enum State {
    /// The fd of the entry refers to it in a process that has the epoll file open.
    InPlace,
    /// Only another fd of such a process does.
    Moved,
    /// Only fds of other processes do.
    Elsewhere,
    /// No fd of any process that was searched does.
    Nowhere,
    /// The entry, or a file that might be its target, kept changing.
    Unsettled,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::InPlace => "in place",
            State::Moved => "moved",
            State::Elsewhere => "elsewhere",
            State::Nowhere => "nowhere",
            State::Unsettled => "unsettled",
        }
    }
}

/// An entry, and where its target file is.
#[derive(Clone)]
pub struct Row {
    pub entry: Entry,
    pub state: State,
    /// The name of the target file.
    pub file: String,
    /// If the entry is not in place: where its fd refers to another file, and the name of that.
    pub reused: Option<(Place, String)>,
    /// Where the target file is open: in holders of the epoll file first.
    pub places: Vec<Place>,
}

/// An epoll file and the rows of its entries.
pub struct Found {
    /// Where it is open: the oldest of the selected processes first.
    pub holders: Vec<Place>,
    pub rows: Vec<Row>,
}

/// The file at an fd, compared with a target file.
enum Seen {
    Target(String),
    OtherFile(String),
    Closed,
    /// It has changed meanwhile, or the entry has.
    Changed,
}

/// An entry whose target file was not found in the processes that have the epoll file open.
struct Absence {
    row: Row,
    /// The number of rounds that have confirmed it.
    misses: u32,
}

/// tfd and toff.
type EntryKey = (Fd, u32);

/// Data, inode and device of the entries with each fd. If these are the same, the entries may be.
/// EPOLLONESHOT clears events, so those do not count.
fn identities(entries: &[Entry]) -> HashMap<Fd, Vec<(u64, u64, u32)>> {
    let mut identities: HashMap<_, Vec<_>> = HashMap::new();
    for entry in entries {
        let identity = (entry.data, entry.inode, entry.device);
        identities.entry(entry.tfd).or_default().push(identity);
    }
    identities
}

pub struct Instance {
    /// Where the epoll file is open. Never empty.
    holders: Vec<Place>,
    entries: Vec<Entry>,
    /// The entries that are settled.
    rows: HashMap<EntryKey, Row>,
    absences: HashMap<EntryKey, Absence>,
    /// The rows to compare again: no inode identifies the target file.
    unconfirmed: Vec<EntryKey>,
    kinds: Kinds,
    /// Whether the epoll file is not open any more.
    pub is_gone: bool,
}

impl Instance {
    pub fn new(holders: Vec<Place>, kinds: Kinds) -> Instance {
        Instance {
            holders,
            entries: Vec::new(),
            rows: HashMap::new(),
            absences: HashMap::new(),
            unconfirmed: Vec::new(),
            kinds,
            is_gone: false,
        }
    }

    pub fn home(&self) -> &Place {
        &self.holders[0]
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The fd tables in which the epoll file is open.
    pub fn tables(&self) -> impl Iterator<Item = Pid> {
        self.holders.iter().map(|holder| holder.table.tid)
    }

    pub fn key(&self, entry: &Entry) -> Key {
        self.kinds.of_entry(entry)
    }

    /// Reads the entries, and forgets the results for those that have changed.
    pub fn update(&mut self) -> Result<(), Error> {
        let entries = loop {
            if let Some(entries) = fdinfo::read(self.home())? {
                break entries;
            }
            // Other holders may still have it open. Results through this holder do not count.
            self.entries.clear();
            if self.holders.len() == 1 {
                self.rows.clear();
                self.absences.clear();
                self.is_gone = true;
                return Ok(());
            }
            self.holders.remove(0);
            self.drop_other_holders()?;
        };
        // Only toff tells entries with the same fd apart. If one of them has changed, forget all.
        let (before, now) = (identities(&self.entries), identities(&entries));
        let is_known = |tfd: &Fd| now.contains_key(tfd) && before.get(tfd) == now.get(tfd);
        self.rows.retain(|(tfd, _), _| is_known(tfd));
        self.absences.retain(|(tfd, _), _| is_known(tfd));
        self.entries = entries;
        Ok(())
    }

    /// Drops the holders whose fd refers to another file by now.
    fn drop_other_holders(&mut self) -> Result<(), Error> {
        let mut holders = std::mem::take(&mut self.holders).into_iter();
        self.holders.extend(holders.next());
        for holder in holders {
            if ask(kcmp::compare_files(self.home(), &holder))? == Some(Ordering::Equal) {
                self.holders.push(holder);
            }
        }
        Ok(())
    }

    /// Reads the entries again, and compares again if there are few: those that come and go quickly
    /// may look the same as before, but not be the ones that kcmp(2) compared.
    fn confirm(&mut self) -> Result<(), Error> {
        // Reading a long list takes so long that once is enough.
        let (least, most) = limits::CONFIRMATIONS;
        let often = limits::CONFIRMED_LINES / (self.entries.len() + 1);
        for _ in 0..often.clamp(least, most) {
            self.update()?;
        }
        let keys = std::mem::take(&mut self.unconfirmed);
        if self.entries.len() > limits::LARGE {
            return Ok(());
        }
        for _ in 0..limits::COMPARED_AGAIN {
            for key in &keys {
                if let Some(row) = self.rows.get(key) {
                    let seen = self.look(&row.places[0], &row.entry)?;
                    if !matches!(seen, Seen::Target(name) if name == row.file) {
                        self.rows.remove(key);
                    }
                }
            }
            self.update()?;
        }
        Ok(())
    }

    fn unsettled(&self) -> Vec<Entry> {
        let is_unsettled = |entry: &&Entry| {
            let key = entry.key();
            !self.rows.contains_key(&key) && !self.absences.contains_key(&key)
        };
        self.entries.iter().filter(is_unsettled).cloned().collect()
    }

    /// Whether all entries are settled.
    pub fn is_settled(&self) -> bool {
        self.rows.len() == self.entries.len()
    }

    /// Whether entries have to be searched for, or confirmed.
    pub fn is_searching(&self) -> bool {
        !self.unconfirmed.is_empty() || self.rows.len() + self.absences.len() < self.entries.len()
    }

    /// Searches once for the target file of each entry that is neither settled nor absent.
    pub fn search(&mut self, index: &mut Index<'_>, control: &mut Control) -> Result<(), Error> {
        let mut lost = Vec::new();
        let mut wanted: HashMap<Key, usize> = HashMap::new();
        for entry in self.unsettled() {
            if !control.step() {
                break;
            }
            // Most files are in place. Entries with the same fd are looked up in order of toff,
            // which is fastest on kernels that remember the last lookup.
            if let Some(row) = self.look_in_place(entry)? {
                *wanted.entry(self.key(&row.entry)).or_default() += 1;
                lost.push(row);
            }
        }
        let mut absent = HashSet::new();
        for row in lost {
            if !control.step() {
                break;
            }
            let key = self.key(&row.entry);
            let counts = (wanted[&key], self.entries.len());
            let compare = |place: &_| self.compare(place, &row.entry);
            let places = index.search(key, counts, control, compare)?;
            let entry = row.entry.key();
            self.place(row, places)?;
            if self.absences.contains_key(&entry) {
                absent.insert(key);
            }
        }
        for key in absent {
            if !index.is_order_kept(key)? {
                let kinds = self.kinds;
                self.absences
                    .retain(|_, absence| kinds.of_entry(&absence.row.entry) != key);
            }
        }
        self.confirm()
    }

    /// Compares the file at a place with a target file.
    fn look(&self, place: &Place, entry: &Entry) -> Result<Seen, Error> {
        let key = self.key(entry);
        let Some(link) = place.link() else {
            return Ok(Seen::Closed);
        };
        let is_possible = key.may_be(self.kinds.of_place(place, &link));
        let Some(name) = name::of(place) else {
            return Ok(Seen::Closed);
        };
        if key.is_of_link() && Key::of_link(&name) != Key::of_link(&link) {
            return Ok(Seen::Changed);
        }
        if !is_possible {
            return Ok(Seen::OtherFile(name));
        }
        if key.is_unique() {
            return Ok(Seen::Target(name));
        }
        let answer = ask(kcmp::compare_entry(place, self.home(), entry.key()))?;
        if name::of(place).as_ref() != Some(&name) {
            return Ok(Seen::Changed);
        }
        Ok(match answer {
            None => Seen::Changed,
            Some(Ordering::Equal) => Seen::Target(name),
            Some(Ordering::Less | Ordering::Greater) => Seen::OtherFile(name),
        })
    }

    /// Looks at the fd of an entry in all holders. Returns a row if that is not its target file in
    /// any of them.
    fn look_in_place(&mut self, entry: Entry) -> Result<Option<Row>, Error> {
        let mut reused = None;
        let mut tables = HashSet::new();
        let mut is_changed = false;
        for holder in &self.holders {
            if !tables.insert(holder.table.tid) {
                continue;
            }
            let place = holder.sibling(entry.tfd);
            match self.look(&place, &entry)? {
                Seen::Closed => {}
                Seen::Changed => is_changed = true,
                Seen::OtherFile(name) => drop(reused.get_or_insert((place, name))),
                Seen::Target(file) => {
                    let row = Row {
                        state: State::InPlace,
                        file,
                        reused: None,
                        places: vec![place],
                        entry,
                    };
                    self.settle(row);
                    return Ok(None);
                }
            }
        }
        Ok((!is_changed).then(|| Row {
            state: State::Nowhere,
            file: self.kinds.name_of_target(&entry),
            reused,
            places: Vec::new(),
            entry,
        }))
    }

    fn settle(&mut self, row: Row) {
        let key = row.entry.key();
        if !self.key(&row.entry).is_unique() {
            self.unconfirmed.push(key);
        }
        self.rows.insert(key, row);
    }

    /// Compares a file with the target file of an entry, for a search.
    pub fn compare(&self, place: &Place, entry: &Entry) -> Result<Answer, Error> {
        files::compare_entry(place, self.home(), entry)
    }

    /// The index of the holder with the fd table of a place.
    fn holder(&self, place: &Place) -> Option<usize> {
        (self.holders.iter()).position(|holder| holder.table.tid == place.table.tid)
    }

    /// Completes a row by the places where its target file was seen.
    fn place(&mut self, mut row: Row, candidates: Vec<Place>) -> Result<(), Error> {
        let key = self.key(&row.entry);
        for place in candidates {
            // A socket that was listed may have moved on.
            if matches!(key, Key::Socket(_)) {
                row.places.push(place);
            } else if let Seen::Target(name) = self.look(&place, &row.entry)? {
                row.file = name;
                row.places.push(place);
            }
        }
        let is_in_place = |place: &Place| place.fd == row.entry.tfd;
        row.places.sort_by_key(|place| {
            let holder = self.holder(place).unwrap_or(usize::MAX);
            let is_far = holder == usize::MAX || !is_in_place(place);
            (is_far, holder, place.table.pid, place.table.tid, place.fd)
        });
        row.state = match row.places.first() {
            None => State::Nowhere,
            Some(place) if self.holder(place).is_none() => State::Elsewhere,
            Some(place) if is_in_place(place) => State::InPlace,
            Some(_) => State::Moved,
        };
        let key = row.entry.key();
        if row.state <= State::Moved {
            row.reused.take_if(|_| row.state == State::InPlace);
            self.settle(row);
        } else {
            self.absences.insert(key, Absence { row, misses: 0 });
        }
        Ok(())
    }

    /// The entries that are absent.
    pub fn absent(&self) -> impl Iterator<Item = &Entry> {
        self.absences.values().map(|absence| &absence.row.entry)
    }

    /// Whether a file in an fd table may change the state of an absent entry.
    pub fn is_in_scope(&self, entry: &Entry, table: Pid) -> bool {
        let absence = self.absences.get(&entry.key());
        absence.is_some_and(|absence| match absence.row.state {
            State::Elsewhere => self.tables().any(|holder| holder == table),
            _ => true,
        })
    }

    /// Records that the target file of an absent entry was seen after all.
    pub fn find(&mut self, entry: &Entry, place: Place) -> Result<(), Error> {
        if let Some(Absence { mut row, .. }) = self.absences.remove(&entry.key()) {
            let mut places = std::mem::take(&mut row.places);
            places.push(place.clone());
            self.place(row, places)?;
        }
        Ok(())
    }

    /// Settles entries that are still absent after a round. `is_calm` tells for an entry whether no
    /// file can have escaped the round, and whether none can have escaped the search so far.
    pub fn settle_absences(
        &mut self,
        mut is_calm: impl FnMut(&Instance, &Entry) -> (bool, bool),
    ) -> Result<(), Error> {
        self.update()?;
        let keys: Vec<_> = self.absences.keys().copied().collect();
        for key in keys {
            let entry = self.absences[&key].row.entry.clone();
            let (is_calm, is_proved) = is_calm(self, &entry);
            let Some(absence) = self.absences.get_mut(&key) else {
                continue;
            };
            absence.misses += u32::from(is_calm);
            if is_proved || absence.misses >= limits::MISSES {
                if let Some(absence) = self.absences.remove(&key) {
                    self.rows.insert(key, absence.row);
                }
            }
        }
        Ok(())
    }

    /// Ends the search, with a row for each entry.
    pub fn finish(mut self) -> Result<Found, Error> {
        self.drop_other_holders()?;
        let mut rows = Vec::new();
        for entry in self.entries {
            rows.push(match self.rows.remove(&entry.key()) {
                // With the current events.
                Some(row) => Row { entry, ..row },
                None => Row {
                    state: State::Unsettled,
                    file: self.kinds.name_of_target(&entry),
                    reused: None,
                    places: Vec::new(),
                    entry,
                },
            });
        }
        Ok(Found {
            holders: self.holders,
            rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::scene;
    use crate::listing::Listing;
    use crate::process::Table;

    #[test]
    fn confirms_what_another_round_has_found() {
        let place = |fd| Place::new(&Table::own(), fd);
        let kinds = Kinds::probe().unwrap();
        let epoll = scene::epoll_create().unwrap();
        let [file, moved] = [(); 2].map(|()| scene::eventfd().unwrap());
        scene::add(epoll, file, 0).unwrap();
        scene::dup2(file, moved).unwrap();
        scene::close(file).unwrap();

        let mut instance = Instance::new(vec![place(epoll)], kinds);
        instance.update().unwrap();
        let nothing = Listing::new(0);
        let search = |instance: &mut Instance| {
            let mut index = Index::new(&nothing, kinds);
            let mut control = Control::new(None);
            instance.search(&mut index, &mut control).unwrap();
        };
        search(&mut instance);
        let entry = instance.entries[0].clone();
        assert_eq!(instance.absences[&entry.key()].row.state, State::Nowhere);
        instance.find(&entry, place(moved)).unwrap();
        assert!(instance.is_settled());
        // The file moves on.
        let next = scene::eventfd().unwrap();
        scene::dup2(moved, next).unwrap();
        scene::close(moved).unwrap();
        assert!(instance.is_searching());
        search(&mut instance);
        assert!(!instance.is_settled());
    }
}
