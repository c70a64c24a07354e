// SPDX-License-Identifier: GPL-2.0

//! Confirms that files are nowhere.
//!
//! A file that passes from process to process can escape all rounds of a search, which compares
//! files later than it lists them.

use crate::error::Error;
use crate::fdinfo::Entry;
use crate::name::{self, Kinds};
use crate::order::Answer;
use crate::process::{self, Fd, Pid, Place, Table};
use crate::progress::Progress;
use crate::watch::Watch;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often all files are listed.
const LISTINGS: usize = 20;

/// How long to keep listing an fd table in which files move, and when to stop doing so.
const STAY: Duration = Duration::from_millis(10);
const ALL_STAYS: Duration = Duration::from_secs(2);

/// The maximum number of comparisons.
const PATIENCE: u32 = 100_000;

/// Lists all files several times, and compares those that were not at the same place before with
/// the target files of entries that seem to be nowhere: at once, before they can move on. Entries
/// whose target files are found are moving, and thus unsettled.
pub fn confirm(
    watches: &mut [Watch],
    own: Pid,
    kinds: &Kinds,
    progress: &mut Progress,
) -> Result<(), Error> {
    let mut suspects = Suspects::new(watches, kinds);
    let begun = Instant::now();
    for _ in 0..LISTINGS {
        if suspects.is_done() {
            break;
        }
        let tables = process::tables(own)?;
        progress.begin("listing files again", tables.len());
        for table in tables {
            progress.step();
            let arrived = Instant::now();
            while suspects.look_at(&table)? {
                let is_late = arrived.elapsed() > STAY || begun.elapsed() > ALL_STAYS;
                if is_late || suspects.is_done() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Entries that seem to be nowhere.
struct Suspects<'a> {
    watches: &'a mut [Watch],
    kinds: &'a Kinds,
    /// By the inode in the link of the target file, if there is one.
    entries: HashMap<Option<u64>, Vec<(usize, Entry)>>,
    /// The files that may be targets and were listed last, by fd table.
    known: HashMap<Pid, HashSet<(Fd, String)>>,
    /// The number of comparisons that are left.
    patience: u32,
}

impl Suspects<'_> {
    fn new<'a>(watches: &'a mut [Watch], kinds: &'a Kinds) -> Suspects<'a> {
        let mut entries: HashMap<_, Vec<_>> = HashMap::new();
        for (index, watch) in watches.iter().enumerate() {
            for entry in watch.nowhere() {
                let inode = kinds.is_inode_in_link(entry).then_some(entry.inode);
                let group = entries.entry(inode).or_default();
                group.push((index, entry.clone()));
            }
        }
        Suspects {
            watches,
            kinds,
            entries,
            known: HashMap::new(),
            patience: PATIENCE,
        }
    }

    fn is_done(&self) -> bool {
        self.entries.is_empty() || self.patience == 0
    }

    /// Lists the files of an fd table. Returns whether they have changed since the last time.
    fn look_at(&mut self, table: &Rc<Table>) -> Result<bool, Error> {
        // The process may have ended.
        let (files, is_restless) = process::list_table(table).unwrap_or_default();
        let known = self.known.remove(&table.tid);
        let mut listed = HashSet::new();
        for (place, link) in files {
            let inode = name::inode_in_link(&link);
            if !self.entries.contains_key(&inode) {
                continue;
            }
            let file = (place.fd, link);
            if known.as_ref().is_none_or(|known| !known.contains(&file)) {
                self.compare(&place, &file.1, inode)?;
            }
            listed.insert(file);
        }
        let is_changed = is_restless || known.is_some_and(|known| known != listed);
        self.known.insert(table.tid, listed);
        Ok(is_changed)
    }

    /// Unsettles the entries whose target file is at `place`.
    fn compare(&mut self, place: &Place, link: &str, inode: Option<u64>) -> Result<(), Error> {
        for (index, entry) in self.entries.remove(&inode).unwrap_or_default() {
            let watch = &mut self.watches[index];
            // A socket has one file: the inode decides.
            let mut is_target = self.kinds.may_be_target(link, &entry);
            if is_target && !self.kinds.is_socket(&entry) {
                self.patience = self.patience.saturating_sub(1);
                is_target = self.patience > 0 && watch.compare(place, &entry)? == Answer::Equal;
            }
            if is_target {
                watch.unsettle(&entry);
            } else {
                let group = self.entries.entry(inode).or_default();
                group.push((index, entry));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene;
    use crate::watch::QUIET_ROUNDS;
    use std::slice;

    #[test]
    fn finds_a_file_that_appears() {
        let table = Table::own();
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
        let mut suspects = Suspects::new(slice::from_mut(&mut watch), &kinds);
        suspects.look_at(&table).unwrap();
        assert_eq!(suspects.entries.len(), 1);
        scene::receive_file(theirs).unwrap();
        assert!(suspects.look_at(&table).unwrap());
        assert!(suspects.entries.is_empty());
        assert_eq!(watch.unsettled().len(), 1);
    }
}
