// SPDX-License-Identifier: GPL-2.0

//! Finds out where the target files of epoll entries are open.
//!
//! Each instance is reported as soon as all its entries are settled. A file that is not found may
//! have moved while files were listed, so further rounds list what can have changed.

use crate::bytes::Bytes;
use crate::control::Control;
use crate::error::Error;
use crate::fdinfo::{EPOLL_LINK, Entry};
use crate::files::{self, Index, Key, Kinds};
use crate::instance::{Found, Instance};
use crate::kcmp;
use crate::limits;
use crate::listing::{self, Listed, Listing};
use crate::name;
use crate::order::{self, Answer};
use crate::process::{self, Fd, Pid, Place, Table};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Which epoll files to list. An empty list or `None` selects all.
#[derive(Default)]
pub struct Selection {
    pub pids: Vec<Pid>,
    pub name: Option<Bytes>,
    pub efd: Option<Fd>,
}

impl Selection {
    fn has_process(&self, table: &Table) -> bool {
        (self.pids.is_empty() || self.pids.contains(&table.pid))
            && (self.name.as_ref()).is_none_or(|name| process::has_name(table, name))
    }

    fn has(&self, epoll: &Place) -> bool {
        self.efd.is_none_or(|efd| efd == epoll.fd) && self.has_process(&epoll.table)
    }
}

/// The scope of a search.
#[derive(Default)]
pub struct Searched {
    pub processes: usize,
    pub files: usize,
    /// Processes that the caller may not inspect, and those of them that are selected.
    pub not_inspected: Vec<Rc<Table>>,
    pub missed: usize,
    /// Whether /proc hides processes, which are not counted.
    pub hidden: bool,
    pub rounds: u32,
    /// Why some of the selected processes or fds are missing.
    pub errors: Vec<Error>,
}

/// Takes an epoll file when all its entries are settled.
pub type Report<'a> = dyn FnMut(Found, &Listing, &Control) -> Result<(), Error> + 'a;

/// Lists epoll files, and searches for the target files of their entries. `report` is called for
/// each epoll file when its entries are settled.
pub fn search(
    mut selection: Selection,
    control: &mut Control,
    report: &mut Report<'_>,
) -> Result<Searched, Error> {
    let own = process::own_pid()?;
    kcmp::probe(own)?;
    let kinds = Kinds::probe().map_err(|e| Error::Io("/proc/self/fd", e))?;
    let mut searched = Searched::default();
    let is_narrowed = !selection.pids.is_empty();
    let mut seen = HashSet::new();
    let mut pids = Vec::new();
    for pid in std::mem::take(&mut selection.pids) {
        let process = process::process_of(pid);
        // Threads of one process may have been given.
        if !seen.insert(*process.as_ref().unwrap_or(&pid)) {
            continue;
        }
        match process.and_then(|pid| listing::check(pid).map(|()| pid)) {
            Ok(pid) => pids.push(pid),
            Err(e) => {
                if let Error::NotPermitted(pid) = e {
                    searched.not_inspected.extend(listing::table_of(pid));
                }
                searched.errors.push(e);
            }
        }
    }
    selection.pids = pids;
    if is_narrowed && selection.pids.is_empty() {
        return Ok(searched);
    }

    let (mut listing, epolls) = list_epolls(own, control)?;
    let is_listed = !control.is_over();
    if is_listed {
        searched.errors.extend(explain(&selection, &listing));
    }
    let mut instances = instances(&selection, epolls, kinds)?;
    for round in 1..=limits::ROUNDS {
        searched.rounds = round;
        let mut rest = Vec::new();
        let mut index = Index::new(&listing, kinds);
        for mut instance in instances {
            control.begin("searching files", instance.len());
            if instance.is_searching() {
                instance.search(&mut index, control)?;
            }
            if instance.is_gone {
                continue;
            }
            if instance.is_settled() {
                report(instance.finish()?, &listing, control)?;
            } else {
                rest.push(instance);
            }
        }
        instances = rest;
        if instances.is_empty() || control.is_over() || round == limits::ROUNDS {
            break;
        }
        update(&mut listing, &mut instances, kinds, control)?;
    }
    for instance in instances {
        report(instance.finish()?, &listing, control)?;
    }

    let ended = |pid: &&Pid| process::stat(**pid).map_or(true, |stat| stat.is_zombie());
    let ended = selection.pids.iter().filter(ended);
    searched.errors.extend(ended.map(|pid| Error::Ended(*pid)));
    searched.processes = listing.processes();
    searched.files = listing.tables().map(|listed| listed.files.len()).sum();
    let missed = |table: &&Rc<Table>| selection.has_process(table);
    searched.missed = listing.not_inspected.iter().filter(missed).count();
    if let Some(name) = &selection.name {
        let mut tables = listing.tables().map(|listed| &listed.table);
        if is_listed && searched.missed == 0 && !tables.any(|table| selection.has_process(table)) {
            searched.errors.push(Error::NoName(name.clone()));
        }
    }
    searched.not_inspected = listing.not_inspected;
    searched.hidden = process::is_proc_hidden();
    Ok(searched)
}

/// Lists all files, and the places of each epoll file among them.
fn list_epolls(own: Pid, control: &mut Control) -> Result<(Listing, Vec<Vec<Place>>), Error> {
    let mut listing = Listing::new(own);
    listing.update(control, |_, _| Ok(true))?;
    let places = listing.tables().flat_map(Listed::places);
    let epolls = places.filter(|(_, link)| *link == EPOLL_LINK);
    let epolls: Vec<_> = epolls.map(|(place, _)| place).collect();
    let mut sorted = Vec::new();
    for _ in 0..limits::ROUNDS {
        sorted = order::sort(epolls.iter().cloned(), files::compare)?;
        // Otherwise an epoll file may be listed twice, which is better than not at all.
        if files::is_sorted(&sorted)? {
            break;
        }
    }
    Ok((listing, sorted))
}

/// The epoll files that are selected: large ones last.
fn instances(
    selection: &Selection,
    epolls: Vec<Vec<Place>>,
    kinds: Kinds,
) -> Result<Vec<Instance>, Error> {
    let mut instances = Vec::new();
    for mut holders in epolls {
        holders.sort_by_cached_key(|holder| {
            let Place { table, fd } = holder;
            let is_other = !selection.has(holder);
            (is_other, table.started, table.pid, table.tid, *fd)
        });
        if !selection.has(&holders[0]) {
            continue;
        }
        let mut instance = Instance::new(holders, kinds);
        instance.update()?;
        if !instance.is_gone {
            instances.push(instance);
        }
    }
    instances.sort_by_key(|instance| {
        let Place { table, fd } = instance.home();
        let is_large = instance.len() > limits::LARGE;
        (is_large, table.pid, table.tid, *fd)
    });
    Ok(instances)
}

/// The reasons why selected processes have no epoll file at the selected fd.
fn explain(selection: &Selection, listing: &Listing) -> Vec<Error> {
    let Some(efd) = selection.efd else {
        return Vec::new();
    };
    let why = |&pid: &Pid| {
        let places = listing.of_process(pid).flat_map(Listed::places);
        let files: Vec<_> = places.filter(|(place, _)| place.fd == efd).collect();
        if files.iter().any(|(_, link)| *link == EPOLL_LINK) {
            return None;
        }
        Some(match files.first().and_then(|(place, _)| name::of(place)) {
            None => Error::NotOpen(pid, efd),
            Some(name) => Error::NotEpoll(pid, efd, Bytes::from(name).to_string()),
        })
    };
    selection.pids.iter().filter_map(why).collect()
}

/// Lists what can have changed, and compares files with the targets of absent entries.
fn update(
    listing: &mut Listing,
    instances: &mut Vec<Instance>,
    kinds: Kinds,
    control: &mut Control,
) -> Result<(), Error> {
    let mut suspects = Suspects::new(instances, kinds);
    let listed = listing.update(control, |old, new| suspects.look(old, new))?;
    let unclear = suspects.unclear;
    let restless: HashSet<Pid> = (listing.tables())
        .filter(|table| listed.contains(&table.table.tid) && table.is_restless)
        .map(|table| table.table.tid)
        .collect();

    let is_over = control.is_over();
    for instance in &mut *instances {
        instance.settle_absences(|instance, entry| {
            let in_scope = |table: &&Pid| instance.is_in_scope(entry, **table);
            let key = instance.key(entry);
            let is_unclear = |table: &Pid| unclear.contains(&(*table, key));
            let is_calm = !is_over
                && !restless.iter().any(|table| in_scope(&table))
                && !listed.iter().filter(in_scope).any(is_unclear);
            (
                is_calm,
                is_calm && !listed.iter().any(|table| in_scope(&table)),
            )
        })?;
    }
    instances.retain(|instance| !instance.is_gone);
    Ok(())
}

/// The absent entries of all instances.
struct Suspects<'a> {
    instances: &'a mut [Instance],
    kinds: Kinds,
    entries: HashMap<Key, Vec<(usize, Entry)>>,
    /// The fd tables from which a file vanished before it was compared, with its key.
    unclear: HashSet<(Pid, Key)>,
}

impl Suspects<'_> {
    fn new(instances: &mut [Instance], kinds: Kinds) -> Suspects<'_> {
        let mut entries: HashMap<_, Vec<_>> = HashMap::new();
        for (index, instance) in instances.iter().enumerate() {
            for entry in instance.absent() {
                let suspect = (index, entry.clone());
                entries
                    .entry(kinds.of_entry(entry))
                    .or_default()
                    .push(suspect);
            }
        }
        Suspects {
            instances,
            kinds,
            entries,
            unclear: HashSet::new(),
        }
    }

    /// The keys of suspects that the file at a place may have.
    fn keys(&self, place: &Place, link: &str) -> Vec<Key> {
        let mut keys = self.entries.keys().copied();
        let key = match Key::of_link(link) {
            Some(key) => key,
            None if keys.any(|key| !key.is_of_link()) => self.kinds.of_place(place, link),
            None => return Vec::new(),
        };
        match key {
            Key::Unknown => (self.entries.keys().copied())
                .filter(|suspect| suspect.may_be(key))
                .collect(),
            key if self.entries.contains_key(&key) => vec![key],
            _ => Vec::new(),
        }
    }

    /// Compares the files of an fd table with the suspects. Returns false if a file had vanished.
    fn look(&mut self, old: Option<&Listed>, new: &Listed) -> Result<bool, Error> {
        let table = new.table.tid;
        self.unclear.retain(|(tid, _)| *tid != table);
        let known: HashSet<(Fd, &str)> = old
            .into_iter()
            .flat_map(|old| old.files.iter().map(|(fd, link)| (*fd, link.as_str())))
            .collect();
        let mut groups: HashMap<Key, Vec<(Place, bool)>> = HashMap::new();
        for (place, link) in new.places() {
            let is_known = known.contains(&(place.fd, link));
            for key in self.keys(&place, link) {
                groups
                    .entry(key)
                    .or_default()
                    .push((place.clone(), is_known));
            }
        }
        for (key, mut places) in groups {
            let entries = self.entries[&key].len();
            let is_few = |places: usize| key.is_unique() || places * entries <= limits::COMPARISONS;
            if !is_few(places.len()) {
                places.retain(|(_, is_known)| !is_known);
            }
            let is_few = is_few(places.len());
            let places = places.into_iter().map(|(place, _)| place);
            if is_few {
                for place in places {
                    self.compare(&place, key)?;
                }
            } else {
                self.search(places, key, table)?;
            }
        }
        Ok(!self.unclear.iter().any(|(tid, _)| *tid == table))
    }

    /// Searches many files of an fd table for the targets of suspects.
    fn search(
        &mut self,
        places: impl ExactSizeIterator<Item = Place>,
        key: Key,
        table: Pid,
    ) -> Result<(), Error> {
        let listed = places.len();
        let mut sorted = order::sort(places, files::compare)?;
        for (index, entry) in &self.entries[&key] {
            let instance = &mut self.instances[*index];
            if !instance.is_in_scope(entry, table) {
                continue;
            }
            let found = order::search(&mut sorted, |place| instance.compare(place, entry))?;
            if let Some(place) = found.map(|places| places[0].clone()) {
                instance.find(entry, place)?;
            }
        }
        let left: usize = sorted.iter().map(Vec::len).sum();
        if left < listed || !files::is_sorted(&sorted)? {
            self.unclear.insert((table, key));
        }
        Ok(())
    }

    fn compare(&mut self, place: &Place, key: Key) -> Result<(), Error> {
        for (index, entry) in self.entries.remove(&key).unwrap_or_default() {
            let instance = &mut self.instances[index];
            let answer = match instance.is_in_scope(&entry, place.table.tid) {
                false => Answer::Less,
                true if key.is_unique() => Answer::Equal,
                true => instance.compare(place, &entry)?,
            };
            match answer {
                Answer::Equal => instance.find(&entry, place.clone())?,
                Answer::LeftGone => drop(self.unclear.insert((place.table.tid, key))),
                _ => {}
            }
            let group = self.entries.entry(key).or_default();
            group.push((index, entry));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::scene;

    #[test]
    fn notices_that_a_file_vanished_while_many_were_sorted() {
        const FILES: usize = 50;

        let (table, kinds) = (Table::own(), Kinds::probe().unwrap());
        let epoll = scene::epoll_create().unwrap();
        let mut files = Vec::new();
        for _ in 0..FILES {
            let file = scene::eventfd().unwrap();
            scene::add(epoll, file, 0).unwrap();
            files.push(file);
        }
        // Otherwise they are in place.
        for file in &mut files {
            let moved = scene::eventfd().unwrap();
            scene::dup2(*file, moved).unwrap();
            scene::close(std::mem::replace(file, moved)).unwrap();
        }
        let mut instance = Instance::new(vec![Place::new(&table, epoll)], kinds);
        instance.update().unwrap();
        let nothing = Listing::new(0);
        let mut index = Index::new(&nothing, kinds);
        (instance.search(&mut index, &mut Control::new(None))).unwrap();
        assert_eq!(instance.absent().count(), FILES);

        let listed = |files: &[Fd]| Listed {
            table: table.clone(),
            files: (files.iter())
                .map(|fd| (*fd, "anon_inode:[eventfd]".to_string()))
                .collect(),
            is_restless: false,
        };
        let mut instances = [instance];
        let mut suspects = Suspects::new(&mut instances, kinds);
        let before = listed(&[&files[..], &[Fd::MAX]].concat());
        assert!(!suspects.look(None, &before).unwrap());
        assert!(suspects.look(Some(&before), &listed(&files)).unwrap());
        assert_eq!(instances[0].absent().count(), 0);
    }
}
