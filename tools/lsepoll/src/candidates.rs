// SPDX-License-Identifier: GPL-2.0

//! The files that may be the target files of entries.

use crate::error::Error;
use crate::fdinfo::Entry;
use crate::kcmp::{self, ask};
use crate::name::{self, Kinds};
use crate::order::{self, Answer};
use crate::process::{Listing, Pid, Place};
use crate::progress::Progress;
use std::collections::{HashMap, HashSet};

/// The key of a group of files. Many files may share an inode, as eventfds do. `None` stands for
/// files whose inode is not known.
type Inode = Option<u64>;

pub struct Candidates {
    groups: HashMap<Inode, Group>,
    /// The fd tables in which files were closed since they were listed.
    restless: HashSet<Pid>,
}

#[derive(Default)]
struct Group {
    /// By fd table.
    places: HashMap<Pid, Vec<Place>>,
    len: usize,
    /// In the order of kcmp(2), if sorting saves calls.
    sorted: Option<Vec<Vec<Place>>>,
    /// Whether the order was still right after the search, if that was checked.
    is_kept: Option<bool>,
}

impl Candidates {
    /// Sorts the files that may be the targets of entries.
    pub fn new<'a>(
        entries: impl Iterator<Item = &'a Entry> + Clone,
        listing: &Listing,
        kinds: &Kinds,
        progress: &mut Progress,
    ) -> Result<Candidates, Error> {
        let mut wanted: HashMap<Inode, usize> = HashMap::new();
        for inode in entries.flat_map(|entry| inodes(entry, kinds)) {
            *wanted.entry(inode).or_default() += 1;
        }

        let mut groups: HashMap<Inode, Group> = HashMap::new();
        for (place, link) in &listing.files {
            let inode = match name::inode_in_link(link) {
                Some(inode) => Some(inode),
                // No need to read more of /proc if all entries are of sockets and pipes.
                None if wanted.contains_key(&None) => name::inode(place, link),
                None => continue,
            };
            if wanted.contains_key(&inode) {
                groups.entry(inode).or_default().push(place.clone());
            }
        }

        let mut restless = listing.restless.clone();
        for (inode, group) in &mut groups {
            // For a few entries, comparing them with all files takes fewer calls.
            if wanted[inode] > order::depth(group.len) {
                group.sort(&mut restless, progress)?;
            }
        }
        Ok(Candidates { groups, restless })
    }

    /// The places where the target file of an entry seems to be open. `compare` compares it with a
    /// file.
    pub fn search(
        &mut self,
        entry: &Entry,
        kinds: &Kinds,
        mut compare: impl FnMut(&Place) -> Result<Answer, Error>,
    ) -> Result<Vec<Place>, Error> {
        let mut found = Vec::new();
        for inode in inodes(entry, kinds) {
            let Some(group) = self.groups.get_mut(&inode) else {
                continue;
            };
            let mut compare = |place: &Place| watching(&mut self.restless, place, &mut compare);
            if let Some(sorted) = &mut group.sorted {
                let equal = order::search(sorted, compare)?;
                found.extend(equal.into_iter().flatten().cloned());
                continue;
            }
            for place in group.of_table(None) {
                if compare(place)? == Answer::Equal {
                    found.push(place.clone());
                }
            }
        }
        Ok(found)
    }

    /// Whether the target file of an entry is open at a listed place that [`Candidates::search`]
    /// may have skipped: compares it with each of these, only in `table` if there is one.
    pub fn is_anywhere(
        &mut self,
        entry: &Entry,
        table: Option<Pid>,
        kinds: &Kinds,
        mut compare: impl FnMut(&Place) -> Result<Answer, Error>,
    ) -> Result<bool, Error> {
        for inode in inodes(entry, kinds) {
            let group = (self.groups.get(&inode)).filter(|group| group.sorted.is_some());
            for place in group.into_iter().flat_map(|group| group.of_table(table)) {
                if watching(&mut self.restless, place, &mut compare)? == Answer::Equal {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The maximum number of comparisons that [`Candidates::is_anywhere`] makes.
    pub fn count(&self, entry: &Entry, table: Option<Pid>, kinds: &Kinds) -> usize {
        let groups = inodes(entry, kinds).filter_map(|inode| self.groups.get(&inode));
        let counts = groups.map(|group| match table {
            None => group.len,
            Some(tid) => group.places.get(&tid).map_or(0, Vec::len),
        });
        counts.sum()
    }

    /// Whether no listed file was closed, only in `table` if there is one.
    pub fn is_quiet(&self, table: Option<Pid>) -> bool {
        match table {
            None => self.restless.is_empty(),
            Some(tid) => !self.restless.contains(&tid),
        }
    }

    /// Whether the files are still in order, so that [`Candidates::search`] cannot have missed one.
    /// Files that were closed and opened meanwhile are usually out of order.
    pub fn is_order_kept(&mut self, entry: &Entry, kinds: &Kinds) -> Result<bool, Error> {
        for inode in inodes(entry, kinds) {
            let Some(group) = self.groups.get_mut(&inode) else {
                continue;
            };
            let is_kept = match (group.is_kept, &group.sorted) {
                (Some(is_kept), _) => is_kept,
                (None, None) => true,
                (None, Some(sorted)) => is_sorted(sorted)?,
            };
            group.is_kept = Some(is_kept);
            if !is_kept {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Group {
    fn push(&mut self, place: Place) {
        self.places.entry(place.table.tid).or_default().push(place);
        self.len += 1;
    }

    /// The places in one fd table, or in all.
    fn of_table(&self, table: Option<Pid>) -> impl Iterator<Item = &Place> {
        let is_wanted = move |tid: &Pid| table.is_none_or(|table| table == *tid);
        (self.places.iter()).flat_map(move |(tid, places)| match is_wanted(tid) {
            true => &places[..],
            false => &[],
        })
    }

    fn sort(&mut self, restless: &mut HashSet<Pid>, progress: &mut Progress) -> Result<(), Error> {
        progress.begin("sorting files", self.len * order::depth(self.len));
        let places: Vec<_> = self.of_table(None).cloned().collect();
        let sorted = order::sort(places, |a, b| {
            progress.step();
            let answer = compare(a, b)?;
            match answer {
                Answer::LeftGone => restless.insert(a.table.tid),
                Answer::RightGone => restless.insert(b.table.tid),
                _ => false,
            };
            Ok(answer)
        });
        self.sorted = Some(sorted?);
        Ok(())
    }
}

/// Compares a file, and remembers its table if it is gone.
fn watching(
    restless: &mut HashSet<Pid>,
    place: &Place,
    compare: &mut impl FnMut(&Place) -> Result<Answer, Error>,
) -> Result<Answer, Error> {
    let answer = compare(place)?;
    if answer == Answer::LeftGone {
        restless.insert(place.table.tid);
    }
    Ok(answer)
}

/// The groups that an entry may be in.
fn inodes(entry: &Entry, kinds: &Kinds) -> impl Iterator<Item = Inode> + use<> {
    let unknown = (!kinds.is_inode_in_link(entry)).then_some(None);
    [Some(entry.inode)].into_iter().chain(unknown)
}

/// Whether each file is less than the next one.
pub fn is_sorted(files: &[Vec<Place>]) -> Result<bool, Error> {
    for pair in files.windows(2) {
        if compare(&pair[0][0], &pair[1][0])? != Answer::Less {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compares two files.
pub fn compare(a: &Place, b: &Place) -> Result<Answer, Error> {
    // kcmp(2) does not tell which of them is gone, and it may be back.
    for _ in 0..3 {
        if let Some(ordering) = ask(kcmp::compare_files(a, b))? {
            return Ok(ordering.into());
        }
        if ask(kcmp::compare_files(a, a))?.is_none() {
            return Ok(Answer::LeftGone);
        }
        if ask(kcmp::compare_files(b, b))?.is_none() {
            return Ok(Answer::RightGone);
        }
    }
    // They keep changing: any result will do.
    Ok(Answer::Less)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Table;
    use crate::scene;

    /// Files of this process, and as many entries of which they may be the targets.
    fn files(count: usize) -> (Listing, Vec<Entry>) {
        let table = Table::own();
        let mut listing = Listing::default();
        for _ in 0..count {
            let place = Place {
                table: table.clone(),
                fd: scene::eventfd().unwrap(),
            };
            let link = place.link().unwrap();
            listing.files.push((place, link));
        }
        let (place, link) = &listing.files[0];
        let entry = Entry {
            tfd: 0,
            toff: 0,
            events: 0,
            data: 0,
            inode: name::inode(place, link).unwrap(),
            device: 0,
        };
        (listing, vec![entry; count])
    }

    #[test]
    fn notices_that_the_order_has_changed() {
        let kinds = Kinds::probe().unwrap();
        let (listing, entries) = files(20);
        let sort = || {
            let mut progress = Progress::new();
            Candidates::new(entries.iter(), &listing, &kinds, &mut progress).unwrap()
        };
        assert!(sort().is_order_kept(&entries[0], &kinds).unwrap());

        let mut candidates = sort();
        let group = candidates.groups.values().next().unwrap();
        let sorted = group.sorted.as_ref().unwrap();
        let (a, b) = (sorted[3][0].fd, sorted[9][0].fd);
        let free = scene::eventfd().unwrap();
        scene::dup2(a, free).unwrap();
        scene::dup2(b, a).unwrap();
        scene::dup2(free, b).unwrap();
        assert!(!candidates.is_order_kept(&entries[0], &kinds).unwrap());

        // Comparing with each file still finds it.
        let (entry, target) = (&entries[0], &listing.files[5].0);
        let mut is_in = |table| {
            let compare = |place: &Place| compare(place, target);
            candidates
                .is_anywhere(entry, table, &kinds, compare)
                .unwrap()
        };
        assert!(is_in(None));
        assert!(is_in(Some(target.table.tid)));
        assert!(!is_in(Some(target.table.tid + 1)));
        assert_eq!(candidates.count(entry, None, &kinds), 20);
        assert_eq!(candidates.count(entry, Some(target.table.tid), &kinds), 20);
        assert_eq!(
            candidates.count(entry, Some(target.table.tid + 1), &kinds),
            0
        );
        assert!(candidates.is_quiet(None));
    }

    #[test]
    fn compares_few_entries_with_each_file() {
        let kinds = Kinds::probe().unwrap();
        let (listing, entries) = files(40);
        let mut progress = Progress::new();
        let mut candidates =
            Candidates::new(entries[..6].iter(), &listing, &kinds, &mut progress).unwrap();
        let mut groups = candidates.groups.values();
        assert!(groups.all(|group| group.sorted.is_none()));
        let places = candidates.search(&entries[0], &kinds, |place| {
            compare(place, &listing.files[7].0)
        });
        let fds: Vec<_> = places.unwrap().iter().map(|place| place.fd).collect();
        assert_eq!(fds, [listing.files[7].0.fd]);
    }
}
