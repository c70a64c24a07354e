// SPDX-License-Identifier: GPL-2.0

//! The files among which target files are searched.

use crate::error::Error;
use crate::fdinfo::Entry;
use crate::kcmp::{self, ask};
use crate::name::{self, Kinds};
use crate::order::{self, Answer};
use crate::process::{Listing, Place};
use crate::progress::Progress;
use std::collections::{HashMap, HashSet};

/// The files that may be the target of an entry, sorted by kcmp(2).
pub struct Candidates {
    /// By inode. Many files may share one: all eventfds do, for example.
    by_inode: HashMap<u64, Vec<Vec<Place>>>,
    /// Files of which the inode is not known.
    others: Vec<Vec<Place>>,
}

impl Candidates {
    pub fn new<'a>(
        entries: impl Iterator<Item = &'a Entry> + Clone,
        listing: &Listing,
        kinds: &Kinds,
        progress: &mut Progress,
    ) -> Result<Candidates, Error> {
        let wanted: HashSet<u64> = entries.clone().map(|entry| entry.inode).collect();
        // Then there is no need to ask /proc for other inodes.
        let all_in_links = entries.clone().all(|entry| kinds.is_inode_in_link(entry));

        let mut by_inode: HashMap<u64, Vec<Place>> = HashMap::new();
        let mut others = Vec::new();
        for (place, link) in &listing.files {
            let inode = match name::inode_in_link(link) {
                Some(inode) => Some(inode),
                None if all_in_links => continue,
                None => name::inode(place, link),
            };
            match inode {
                None => others.push(place.clone()),
                Some(inode) if wanted.contains(&inode) => {
                    by_inode.entry(inode).or_default().push(place.clone());
                }
                Some(_) => {}
            }
        }

        let mut sort = |places: Vec<Place>| {
            progress.begin("sorting files", order::comparisons(places.len()));
            order::sort(places, |a, b| {
                progress.step();
                compare(a, b)
            })
        };
        let by_inode: Result<_, Error> = (by_inode.into_iter())
            .map(|(inode, places)| Ok((inode, sort(places)?)))
            .collect();
        Ok(Candidates {
            by_inode: by_inode?,
            others: sort(others)?,
        })
    }

    /// The files that may have an inode.
    pub fn of(&mut self, inode: u64) -> impl Iterator<Item = &mut Vec<Vec<Place>>> {
        let by_inode = self.by_inode.get_mut(&inode);
        by_inode.into_iter().chain([&mut self.others])
    }
}

/// Compares two files for sorting.
pub fn compare(a: &Place, b: &Place) -> Result<Answer, Error> {
    if let Some(ordering) = ask(kcmp::compare_files(a, b))? {
        return Ok(ordering.into());
    }
    // kcmp(2) does not tell which of them it has not found.
    Ok(match ask(kcmp::compare_files(a, a))? {
        None => Answer::LeftGone,
        Some(_) => Answer::RightGone,
    })
}
