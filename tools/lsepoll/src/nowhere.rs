// SPDX-License-Identifier: GPL-2.0

//! Confirms that files are nowhere.
//!
//! A file that passes from process to process can escape all rounds of a search, which compares
//! files later than it lists them.

use crate::error::Error;
use crate::fdinfo::Entry;
use crate::name::Kinds;
use crate::order::Answer;
use crate::process::{self, Fd, Listing, Pid, Place};
use crate::progress::Progress;
use crate::watch::Watch;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How often all fd tables are listed.
const LISTINGS: usize = 20;

/// How long an fd table is listed again and again in which files move.
const PATIENCE: Duration = Duration::from_millis(10);

/// Lists all fd tables several times, and compares files that were not listed before at once with the
/// target files of entries that seem to be nowhere. Entries whose target files are found are moving,
/// and thus unsettled.
pub fn confirm(
    watches: &mut [Watch],
    listing: &Listing,
    kinds: &Kinds,
    progress: &mut Progress,
) -> Result<(), Error> {
    let entries = (watches.iter().enumerate())
        .flat_map(|(index, watch)| watch.nowhere().map(move |entry| (index, entry.clone())));
    let mut nowhere: Vec<(usize, Entry)> = entries.collect();
    if nowhere.is_empty() {
        return Ok(());
    }
    let is_there = |(place, link): &&(Place, String)| place.link().as_ref() == Some(link);
    let known: HashSet<(Pid, Fd, &str)> = (listing.files.iter().filter(is_there))
        .map(|(place, link)| (place.table.tid, place.fd, link.as_str()))
        .collect();
    let mut tables: Vec<_> = listing
        .files
        .iter()
        .map(|(place, _)| &place.table)
        .collect();
    tables.dedup_by_key(|table| table.tid);

    progress.begin("listing files again", LISTINGS * tables.len());
    for table in tables.repeat(LISTINGS) {
        progress.step();
        let started = Instant::now();
        let mut is_moving = false;
        while !nowhere.is_empty() {
            // The process may have ended.
            let (mut files, is_restless) = process::list_table(table).unwrap_or_default();
            files.retain(|(place, link)| !known.contains(&(table.tid, place.fd, link)));
            for (place, link) in &files {
                for (index, entry) in std::mem::take(&mut nowhere) {
                    let watch = &mut watches[index];
                    if is_target(watch, place, link, &entry, kinds)? {
                        watch.unsettle(&entry);
                    } else {
                        nowhere.push((index, entry));
                    }
                }
            }
            is_moving |= is_restless || !files.is_empty();
            if !is_moving || started.elapsed() > PATIENCE {
                break;
            }
        }
    }
    Ok(())
}

/// Whether a listed file is the target of an entry. If it is gone, its inode decides, if known.
fn is_target(
    watch: &Watch,
    place: &Place,
    link: &str,
    entry: &Entry,
    kinds: &Kinds,
) -> Result<bool, Error> {
    Ok(kinds.may_be_target(link, entry)
        && match watch.compare(place, entry)? {
            Answer::Equal => true,
            answer => answer.is_gone() && kinds.is_inode_in_link(entry),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Table;
    use crate::scene;
    use crate::watch::QUIET_ROUNDS;
    use std::rc::Rc;
    use std::slice;

    #[test]
    fn finds_a_file_that_appears() {
        let pid = std::process::id() as Pid;
        let table = Rc::new(Table {
            pid,
            tid: pid,
            comm: String::new(),
            started: 0,
        });
        let fd = scene::epoll_create().unwrap();
        let target = scene::eventfd().unwrap();
        scene::add(fd, target, 0).unwrap();
        let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM).unwrap();
        scene::send_file(ours, target).unwrap();
        scene::close(target).unwrap();

        let kinds = Kinds::probe().unwrap();
        let home = Place {
            table: table.clone(),
            fd,
        };
        let mut watch = Watch::new(home, [], kinds);
        watch.update().unwrap();
        for _ in 0..QUIET_ROUNDS {
            let entry = watch.unsettled().remove(0);
            let lost = watch.look_in_place(entry).unwrap().unwrap();
            let miss = watch.look_at(lost, Vec::new()).unwrap().unwrap();
            watch.miss(miss, true);
        }
        let listing = Listing {
            files: process::list_table(&table).unwrap().0,
            ..Listing::default()
        };
        let mut count_confirmed = || {
            confirm(
                slice::from_mut(&mut watch),
                &listing,
                &kinds,
                &mut Progress::new(),
            )
            .unwrap();
            watch.nowhere().count()
        };
        assert_eq!(count_confirmed(), 1);
        scene::receive_file(theirs).unwrap();
        assert_eq!(count_confirmed(), 0);
        assert_eq!(watch.unsettled().len(), 1);
    }
}
