// SPDX-License-Identifier: GPL-2.0

//! An epoll file under observation.

use crate::error::Error;
use crate::fdinfo::{self, Entry};
use crate::kcmp::{self, ask};
use crate::name::{self, Kinds};
use crate::order::Answer;
use crate::process::{self, Fd, Listing, Pid, Place};
use crate::report::{Epoll, Row, State};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

/// An entry is settled as elsewhere only after this many listings of the fd table of its process
/// without a change.
const LISTINGS: u32 = 10;

/// A file that keeps moving from fd to fd can escape one search, but hardly all of them. An entry
/// is settled as a miss after this many rounds in which no file disappeared that could be its
/// target.
pub const QUIET_ROUNDS: u32 = 6;

/// The approximate number of lines of fdinfo to read again to confirm rows.
const CONFIRMED: usize = 30_000;

/// The file at an fd, compared with a target file.
enum Seen {
    Target(String),
    OtherFile(String),
    Closed,
}

/// An entry whose fd does not refer to its target file.
pub struct Lost {
    pub entry: Entry,
    /// The name of the file to which the fd refers instead, if it is open.
    stale: Option<String>,
    /// The miss of the previous round.
    before: Option<Miss>,
}

/// An entry whose target file was not found in its process.
pub struct Miss {
    row: Row,
    /// The number of consecutive rounds with a miss.
    rounds: u32,
    /// How many of them were quiet: no file disappeared that could be the target.
    quiet_rounds: u32,
    /// Whether the last round was quiet.
    is_quiet: bool,
}

impl Miss {
    pub fn entry(&self) -> &Entry {
        &self.row.entry
    }
}

type Key = (Fd, u32);

pub struct Watch {
    /// Where the epoll file is open. Never empty.
    holders: Vec<Place>,
    entries: Vec<Entry>,
    /// The entries that are settled.
    rows: HashMap<Key, Row>,
    /// Those of them to check again: their inode does not identify the target file.
    unconfirmed: Vec<Key>,
    /// The entries that were missed in the last round.
    misses: HashMap<Key, Miss>,
    /// The nearest state in which an entry was seen before.
    seen: HashMap<Key, State>,
    kinds: Kinds,
}

impl Watch {
    /// States are as seen from `home`.
    pub fn new(home: Place, others: impl IntoIterator<Item = Place>, kinds: Kinds) -> Watch {
        Watch {
            holders: [home].into_iter().chain(others).collect(),
            entries: Vec::new(),
            rows: HashMap::new(),
            unconfirmed: Vec::new(),
            misses: HashMap::new(),
            seen: HashMap::new(),
            kinds,
        }
    }

    pub fn home(&self) -> &Place {
        &self.holders[0]
    }

    fn is_home(&self, place: &Place) -> bool {
        place.table.tid == self.home().table.tid
    }

    /// Reads the entries, and forgets the results for those that have changed.
    ///
    /// Returns false if the epoll file is gone.
    pub fn update(&mut self) -> Result<bool, Error> {
        let entries = loop {
            if let Some(entries) = fdinfo::read(self.home())? {
                break entries;
            }
            // Other holders may still have it open. Results through this holder do not count.
            self.entries.clear();
            if self.holders.len() == 1 {
                return Ok(false);
            }
            self.holders.remove(0);
            self.drop_other_holders()?;
        };
        // Only toff tells entries with the same fd apart. If one of them has changed, forget all.
        let same_tfd = |a: &Entry, b: &Entry| a.tfd == b.tfd;
        let before: HashMap<Fd, &[Entry]> = (self.entries.chunk_by(same_tfd))
            .map(|chunk| (chunk[0].tfd, chunk))
            .collect();
        let is_known = |chunk: &&[Entry]| {
            let before = before.get(&chunk[0].tfd).copied().unwrap_or_default();
            before.len() == chunk.len() && before.iter().zip(*chunk).all(|(a, b)| a.is_like(b))
        };
        let known: HashSet<Fd> = (entries.chunk_by(same_tfd))
            .filter(is_known)
            .map(|chunk| chunk[0].tfd)
            .collect();
        self.rows.retain(|(tfd, _), _| known.contains(tfd));
        self.misses.retain(|(tfd, _), _| known.contains(tfd));
        self.seen.retain(|(tfd, _), _| known.contains(tfd));
        self.entries = entries;
        Ok(true)
    }

    /// Checks the rows that were settled since the last call: entries that come and go quickly may
    /// look the same as before, but not be the ones that kcmp(2) compared.
    ///
    /// Returns false if the epoll file is gone.
    pub fn confirm(&mut self) -> Result<bool, Error> {
        // Reading a long list takes so long that a few times are enough.
        let often = CONFIRMED / (self.entries.len() + 1);
        for n in 0..often.clamp(3, 20) {
            if !self.update()? {
                return Ok(false);
            }
            if n < often.min(3) {
                self.look_again()?;
            }
        }
        self.unconfirmed.clear();
        self.update()
    }

    fn look_again(&mut self) -> Result<(), Error> {
        for key in &self.unconfirmed {
            let Some(row) = self.rows.get(key) else {
                continue;
            };
            match self.look(&row.places[0], &row.entry)? {
                Some(Seen::Target(name)) if name == row.file => {}
                _ => {
                    self.seen.insert(*key, row.state);
                    self.rows.remove(key);
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, row: Row) {
        let key = row.entry.key();
        if !self.kinds.is_inode_in_link(&row.entry) {
            self.unconfirmed.push(key);
        }
        self.rows.insert(key, row);
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

    pub fn unsettled(&self) -> Vec<Entry> {
        let is_unsettled = |entry: &&Entry| !self.rows.contains_key(&entry.key());
        self.entries.iter().filter(is_unsettled).cloned().collect()
    }

    /// Compares the file at a place with a target file. Returns `None` if either has changed
    /// meanwhile.
    fn look(&self, place: &Place, entry: &Entry) -> Result<Option<Seen>, Error> {
        let Some(name) = name::of(place) else {
            return Ok(Some(Seen::Closed));
        };
        let answer = ask(kcmp::compare_entry(place, self.home(), entry.key()))?;
        if name::of(place).as_ref() != Some(&name) {
            return Ok(None);
        }
        let is_other_entry =
            self.kinds.is_inode_in_link(entry) && name::inode_in_link(&name) != Some(entry.inode);
        Ok(match answer {
            None => None,
            Some(Ordering::Equal) if is_other_entry => None,
            Some(Ordering::Equal) => Some(Seen::Target(name)),
            Some(Ordering::Less | Ordering::Greater) => Some(Seen::OtherFile(name)),
        })
    }

    /// Compares the file at the fd of an entry. Returns the entry if that is not its target file.
    pub fn look_in_place(&mut self, entry: Entry) -> Result<Option<Lost>, Error> {
        let before = self.misses.remove(&entry.key());
        let place = self.home().sibling(entry.tfd);
        let stale = match self.look(&place, &entry)? {
            None => return Ok(None),
            Some(Seen::Closed) => None,
            Some(Seen::OtherFile(name)) => Some(name),
            Some(Seen::Target(file)) => {
                let row = Row {
                    state: State::InPlace,
                    file,
                    stale: None,
                    places: vec![place],
                    entry,
                };
                self.settle(row);
                return Ok(None);
            }
        };
        Ok(Some(Lost {
            entry,
            stale,
            before,
        }))
    }

    /// Compares a file with the target file of an entry, for a search.
    pub fn compare(&self, place: &Place, entry: &Entry) -> Result<Answer, Error> {
        match kcmp::compare_entry(place, self.home(), entry.key()) {
            Err(e) if kcmp::is_no_entry(&e) => Ok(Answer::RightGone),
            answer => Ok(ask(answer)?.map_or(Answer::LeftGone, Answer::from)),
        }
    }

    /// Looks for the target file of an entry at the candidates. Returns a miss if it is not open in
    /// the process, unless it was there before.
    pub fn look_at(
        &mut self,
        Lost {
            entry,
            stale,
            before,
        }: Lost,
        candidates: Vec<Place>,
    ) -> Result<Option<Miss>, Error> {
        let mut file = self.kinds.name_of_target(&entry);
        let mut places = Vec::new();
        let (mut is_quiet, mut is_home_quiet) = (true, true);
        for place in candidates {
            match self.look(&place, &entry)? {
                Some(Seen::Target(name)) => {
                    file = name;
                    places.push(place);
                }
                Some(Seen::OtherFile(_)) => {}
                Some(Seen::Closed) | None => {
                    is_quiet = false;
                    is_home_quiet &= !self.is_home(&place);
                }
            }
        }
        let is_in_place = |place: &Place| self.is_home(place) && place.fd == entry.tfd;
        places.sort_by_key(|place| {
            let is_far = (!is_in_place(place), !self.is_home(place));
            (is_far, place.table.pid, place.table.tid, place.fd)
        });
        let state = match places.first() {
            None => State::Nowhere,
            Some(place) if is_in_place(place) => State::InPlace,
            Some(place) if self.is_home(place) => State::Moved,
            Some(_) => State::Elsewhere,
        };
        let row = Row {
            state,
            file,
            // The file may have come back.
            stale: stale.filter(|_| state != State::InPlace),
            places,
            entry,
        };
        if matches!(state, State::InPlace | State::Moved) {
            self.settle(row);
            return Ok(None);
        }
        let seen = self.seen.entry(row.entry.key()).or_insert(state);
        if state > (*seen).max(State::Moved) {
            // The file was nearer in an earlier round: it is moving.
            return Ok(None);
        }
        *seen = state;
        let (rounds, quiet_rounds) = before.map_or((0, 0), |m| (m.rounds, m.quiet_rounds));
        Ok(Some(Miss {
            row,
            rounds: rounds + 1,
            quiet_rounds,
            is_quiet: match state {
                State::Elsewhere => is_home_quiet,
                _ => is_quiet,
            },
        }))
    }

    /// The fd table in which the file was missed; `None` for all.
    pub fn scope(&self, miss: &Miss) -> Option<Pid> {
        (miss.row.state == State::Elsewhere).then_some(self.home().table.tid)
    }

    /// Records that the target file of a miss was listed.
    pub fn see(&mut self, miss: &Miss) {
        let seen = (self.seen.entry(miss.entry().key())).or_insert(State::Elsewhere);
        *seen = State::Elsewhere.min(*seen);
    }

    /// Records a miss, and settles it after enough quiet rounds. `is_quiet` says whether this round
    /// was quiet.
    pub fn miss(&mut self, mut miss: Miss, is_quiet: bool) {
        let key = miss.row.entry.key();
        miss.is_quiet &= is_quiet;
        miss.quiet_rounds += u32::from(miss.is_quiet);
        if miss.quiet_rounds >= QUIET_ROUNDS {
            self.rows.insert(key, miss.row);
        } else {
            self.misses.insert(key, miss);
        }
    }

    /// Whether more rounds may settle a miss.
    pub fn is_missing_rounds(&self) -> bool {
        let mut misses = self.misses.values();
        misses.any(|miss| miss.rounds >= QUIET_ROUNDS)
    }

    /// Settles entries whose files are elsewhere, unless they may also be open in the process.
    pub fn settle_elsewhere(&mut self, listing: &Listing) {
        let is_elsewhere = |miss: &Miss| miss.row.state == State::Elsewhere && miss.is_quiet;
        if !self.misses.values().any(is_elsewhere) {
            return;
        }
        let before = (listing.files.iter()).filter(|(place, _)| self.is_home(place));
        let mut listed: HashMap<(Fd, String), u32> = HashMap::new();
        for (place, link) in before.cloned() {
            *listed.entry((place.fd, link)).or_default() += 1;
        }
        for _ in 0..LISTINGS {
            let Ok((files, false)) = process::list_table(&self.home().table) else {
                return;
            };
            for (place, link) in files {
                *listed.entry((place.fd, link)).or_default() += 1;
            }
        }
        let restless: HashSet<Option<u64>> = (listed.into_iter())
            .filter(|(_, count)| *count != LISTINGS + 1)
            .map(|((_, link), _)| name::inode_in_link(&link))
            .collect();

        let is_settled = |miss: &Miss| {
            let entry = &miss.row.entry;
            let inode = self.kinds.is_inode_in_link(entry).then_some(entry.inode);
            is_elsewhere(miss) && !restless.contains(&inode)
        };
        let (settled, misses) = (self.misses.drain()).partition(|(_, miss)| is_settled(miss));
        self.misses = misses;
        for (_, miss) in settled as HashMap<Key, Miss> {
            self.settle(miss.row);
        }
    }

    /// The entries that seem to be nowhere.
    pub fn nowhere(&self) -> impl Iterator<Item = &Entry> {
        let rows = self.rows.values().filter(|row| row.state == State::Nowhere);
        rows.map(|row| &row.entry)
    }

    /// Forgets the result for an entry.
    pub fn unsettle(&mut self, entry: &Entry) {
        self.rows.remove(&entry.key());
    }

    pub fn finish(mut self) -> Result<Epoll, Error> {
        self.drop_other_holders()?;
        let mut rows = Vec::new();
        for entry in self.entries {
            rows.push(match self.rows.remove(&entry.key()) {
                // With the current events.
                Some(row) => Row { entry, ..row },
                None => Row {
                    state: State::Unsettled,
                    file: self.kinds.name_of_target(&entry),
                    stale: None,
                    places: Vec::new(),
                    entry,
                },
            });
        }
        Ok(Epoll {
            holders: self.holders,
            entries: rows.len(),
            rows,
        })
    }
}
