// SPDX-License-Identifier: GPL-2.0

//! The files among which target files are searched.

use crate::error::Error;
use crate::fdinfo::Entry;
use crate::kcmp::{self, ask};
use crate::name::{self, Kinds};
use crate::order::{self, Answer};
use crate::process::{Listing, Place};
use crate::progress::Progress;
use std::collections::HashMap;

/// The number of comparisons to spend in a round on not having to rely on an order.
const PATIENCE: usize = 100_000;

/// The files with the same inode: many, if they are eventfds for example. `None` stands for files
/// of which the inode is not known.
type Inode = Option<u64>;

pub struct Candidates {
    groups: HashMap<Inode, Group>,
    /// Whether files vanished before they could be put into a group.
    is_incomplete: bool,
}

struct Group {
    places: Vec<Place>,
    /// In the order of kcmp(2), if that pays.
    sorted: Option<Vec<Vec<Place>>>,
    /// Whether the order was found to be right after the search.
    is_kept: Option<bool>,
    /// Whether files were closed since they were listed.
    is_disturbed: bool,
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

        let mut groups: HashMap<Inode, Vec<Place>> = HashMap::new();
        for (place, link) in &listing.files {
            let inode = match name::inode_in_link(link) {
                Some(inode) => Some(inode),
                // There is no need to ask /proc if all entries are of sockets and pipes.
                None if wanted.contains_key(&None) => name::inode(place, link),
                None => continue,
            };
            if wanted.contains_key(&inode) {
                groups.entry(inode).or_default().push(place.clone());
            }
        }

        let mut candidates = Candidates {
            groups: HashMap::new(),
            is_incomplete: listing.vanished > 0,
        };
        for (inode, places) in groups {
            // For a few entries, it takes fewer calls to compare them with all files.
            let is_sorting_worth_it = wanted[&inode] > order::depth(places.len());
            let mut group = Group {
                places,
                sorted: None,
                is_kept: None,
                is_disturbed: false,
            };
            if is_sorting_worth_it {
                group.sort(progress)?;
            }
            candidates.groups.insert(inode, group);
        }
        Ok(candidates)
    }

    /// The places where the target file of an entry may be open. `compare` compares it with a file.
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
            if let Some(sorted) = &mut group.sorted {
                let equal = order::search(sorted, |place| {
                    let answer = compare(place)?;
                    group.is_disturbed |= answer.is_gone();
                    Ok(answer)
                })?;
                found.extend(equal.into_iter().flatten().cloned());
            } else {
                group.scan(&mut found, &mut compare)?;
            }
        }
        Ok(found)
    }

    /// Whether all files were still open that could be the target of an entry.
    pub fn is_quiet(&self, entry: &Entry, kinds: &Kinds) -> bool {
        let mut groups = inodes(entry, kinds).filter_map(|inode| self.groups.get(&inode));
        !self.is_incomplete && !groups.any(|group| group.is_disturbed)
    }

    /// Whether it takes too long to compare entries with all files, again.
    pub fn are_too_many<'a>(
        &self,
        entries: impl Iterator<Item = &'a Entry>,
        kinds: &Kinds,
    ) -> bool {
        let groups = entries
            .flat_map(|entry| inodes(entry, kinds))
            .filter_map(|inode| self.groups.get(&inode));
        groups.map(|group| group.places.len()).sum::<usize>() > PATIENCE
    }

    /// Whether a file that [`Candidates::search`] has not found at a place was not there: the order
    /// must still be right. Files that were closed and opened meanwhile are not in order.
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

    /// Like [`Candidates::search`], without the help of an order.
    pub fn search_all(
        &mut self,
        entry: &Entry,
        kinds: &Kinds,
        mut compare: impl FnMut(&Place) -> Result<Answer, Error>,
    ) -> Result<Vec<Place>, Error> {
        let mut found = Vec::new();
        for inode in inodes(entry, kinds) {
            if let Some(group) = self.groups.get_mut(&inode) {
                group.scan(&mut found, &mut compare)?;
            }
        }
        Ok(found)
    }
}

impl Group {
    fn sort(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let steps = self.places.len() * order::depth(self.places.len());
        progress.begin("sorting files", steps);
        let sorted = order::sort(self.places.iter().cloned(), |a, b| {
            progress.step();
            let answer = compare(a, b)?;
            self.is_disturbed |= answer.is_gone();
            Ok(answer)
        });
        self.sorted = Some(sorted?);
        Ok(())
    }

    /// Appends the places that compare equal.
    fn scan(
        &mut self,
        found: &mut Vec<Place>,
        compare: &mut impl FnMut(&Place) -> Result<Answer, Error>,
    ) -> Result<(), Error> {
        for place in &self.places {
            let answer = compare(place)?;
            self.is_disturbed |= answer.is_gone();
            if answer == Answer::Equal {
                found.push(place.clone());
            }
        }
        Ok(())
    }
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
    // kcmp(2) does not tell which of them it has not found, and it may be there again.
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
    // There is no order to keep.
    Ok(Answer::Less)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Table;
    use crate::scene;
    use std::rc::Rc;

    /// Files of this process, and as many entries that they may be targets of.
    fn files(count: usize) -> (Listing, Vec<Entry>) {
        let pid = std::process::id() as i32;
        let table = Rc::new(Table {
            pid,
            tid: pid,
            comm: String::new(),
            started: 0,
        });
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

        // Then there is another way.
        let target = &listing.files[5].0;
        let found = candidates.search_all(&entries[0], &kinds, |place| compare(place, target));
        let fds: Vec<_> = found.unwrap().iter().map(|place| place.fd).collect();
        assert_eq!(fds, [target.fd]);
        assert!(!candidates.are_too_many(entries.iter(), &kinds));
        let many = entries.iter().cycle().take(PATIENCE);
        assert!(candidates.are_too_many(many, &kinds));
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
