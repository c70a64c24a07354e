// SPDX-License-Identifier: GPL-2.0

//! Finds out where the target files of epoll entries are open.
//!
//! Processes keep running meanwhile. So /proc is read before and after each comparison: fdinfo for
//! an entry, the link for a file. If these differ, the result is dropped, and the comparison is
//! repeated in the next round.

use crate::candidates::{self, Candidates};
use crate::error::Error;
use crate::fdinfo::EPOLL_LINK;
use crate::kcmp;
use crate::name::{self, Kinds};
use crate::nowhere;
use crate::order;
use crate::process::{self, Fd, Listing, Pid, Place};
use crate::progress::Progress;
use crate::report::{Epoll, Report, Searched};
use crate::sockets::Sockets;
use crate::watch::{QUIET_ROUNDS, Watch};
use std::collections::HashSet;

/// The maximum number of rounds. Entries that are not settled by then are unsettled.
const ROUNDS: u32 = 20;

/// The maximum number of comparisons in a round to verify misses.
const PATIENCE: usize = 100_000;

/// Which epoll files to list. An empty list or `None` selects all.
#[derive(Clone, Default)]
pub struct Selection {
    pub pids: Vec<Pid>,
    pub name: Option<String>,
    pub efd: Option<Fd>,
}

impl Selection {
    fn has(&self, epoll: &Place) -> bool {
        let Selection { pids, name, efd } = self;
        (pids.is_empty() || pids.contains(&epoll.table.pid))
            && name.as_ref().is_none_or(|name| *name == epoll.table.comm)
            && efd.is_none_or(|efd| efd == epoll.fd)
    }
}

/// Lists epoll files, and searches for the target files of their entries.
pub fn search(selection: &Selection, progress: &mut Progress) -> Result<Report, Error> {
    let own = process::own_pid()?;
    kcmp::probe(own)?;
    let kinds = Kinds::probe().map_err(|e| Error::Io("/proc/self/fd", e))?;
    let mut selection = selection.clone();
    let mut errors = Vec::new();
    let is_narrowed = !selection.pids.is_empty();
    selection.pids = (unique(selection.pids).into_iter())
        .filter_map(|pid| process::process_of(pid).map_err(|e| errors.push(e)).ok())
        .collect();
    // Threads of one process may have been given.
    selection.pids = unique(selection.pids);
    if is_narrowed && selection.pids.is_empty() {
        return Ok(Report {
            errors,
            ..Report::default()
        });
    }

    let (mut listing, epolls) = list_epolls(own, progress)?;
    errors.extend(explain(&selection, &listing));
    let mut watches = watches(&selection, epolls, kinds);
    update(&mut watches, Watch::update)?;
    let mut rounds = 0;
    loop {
        rounds += 1;
        ask_round(&mut watches, &listing, &kinds, progress)?;
        progress.begin("confirming", watches.len());
        update(&mut watches, |watch| {
            progress.step();
            watch.confirm()
        })?;
        let is_settled = watches.iter().all(|watch| watch.unsettled().is_empty());
        // Entries that keep changing are not worth more rounds.
        let is_enough = rounds >= QUIET_ROUNDS && !watches.iter().any(Watch::is_missing_rounds);
        if is_settled || is_enough || rounds == ROUNDS {
            break;
        }
        listing = process::list(own, progress)?;
    }
    nowhere::confirm(&mut watches, own, &kinds, progress)?;
    update(&mut watches, Watch::update)?;

    let mut epolls = Vec::new();
    for watch in watches {
        epolls.push(watch.finish()?);
    }
    add_addresses(&mut epolls);
    Ok(Report {
        epolls,
        searched: Searched {
            processes: listing.processes,
            files: listing.files.len(),
            not_permitted: listing.not_permitted,
            hidden: process::is_proc_hidden(),
            rounds,
        },
        errors,
    })
}

fn unique(mut pids: Vec<Pid>) -> Vec<Pid> {
    let mut seen = HashSet::new();
    pids.retain(|pid| seen.insert(*pid));
    pids
}

/// Lists all files, and the places of each epoll file among them.
fn list_epolls(own: Pid, progress: &mut Progress) -> Result<(Listing, Vec<Vec<Place>>), Error> {
    let mut tries = 0..QUIET_ROUNDS;
    loop {
        let listing = process::list(own, progress)?;
        let epolls = (listing.files.iter()).filter(|(_, link)| link == EPOLL_LINK);
        let epolls = epolls.map(|(place, _)| place.clone());
        let sorted = order::sort(epolls, candidates::compare)?;
        // Otherwise an epoll file may be listed twice.
        if candidates::is_sorted(&sorted)? || tries.next().is_none() {
            return Ok((listing, sorted));
        }
    }
}

/// The epoll files that are selected.
fn watches(selection: &Selection, epolls: Vec<Vec<Place>>, kinds: Kinds) -> Vec<Watch> {
    let mut watches = Vec::new();
    for mut holders in epolls {
        // See the entries as the selected process does, or as the one that is likely to have added
        // them: the oldest one.
        holders.sort_by_key(|holder| {
            let Place { table, fd } = holder;
            let is_other = !selection.has(holder);
            (is_other, table.started, table.pid, table.tid, *fd)
        });
        let home = holders.remove(0);
        if selection.has(&home) {
            watches.push(Watch::new(home, holders, kinds));
        }
    }
    watches.sort_by_key(|watch| {
        let Place { table, fd } = watch.home();
        (table.pid, table.tid, *fd)
    });
    watches
}

/// The reasons why selected processes have no epoll file at the selected fd.
fn explain(selection: &Selection, listing: &Listing) -> Vec<Error> {
    let Some(efd) = selection.efd else {
        return Vec::new();
    };
    let why = |&pid: &Pid| {
        let is_there = |place: &Place| place.table.pid == pid && place.fd == efd;
        let mut files = listing.files.iter().filter(|(place, _)| is_there(place));
        let first = files.clone().next();
        if files.any(|(_, link)| link == EPOLL_LINK) {
            return None;
        }
        Some(match first.and_then(|(place, _)| name::of(place)) {
            None => Error::NotOpen(pid, efd),
            Some(name) => Error::NotEpoll(pid, efd, name),
        })
    };
    selection.pids.iter().filter_map(why).collect()
}

/// Updates all epoll files, and drops those that are gone.
fn update(
    watches: &mut Vec<Watch>,
    mut update: impl FnMut(&mut Watch) -> Result<bool, Error>,
) -> Result<(), Error> {
    for mut watch in std::mem::take(watches) {
        if update(&mut watch)? {
            watches.push(watch);
        }
    }
    Ok(())
}

/// Searches once for the target file of each entry that is not settled.
fn ask_round(
    watches: &mut [Watch],
    listing: &Listing,
    kinds: &Kinds,
    progress: &mut Progress,
) -> Result<(), Error> {
    let mut lost = Vec::new();
    for (index, watch) in watches.iter_mut().enumerate() {
        let unsettled = watch.unsettled();
        progress.begin("looking at fds", unsettled.len());
        for entry in unsettled {
            // Most files are in place. Entries with the same fd are looked up in order of toff,
            // which is fastest on kernels that remember the last lookup.
            lost.extend(watch.look_in_place(entry)?.map(|lost| (index, lost)));
            progress.step();
        }
    }
    if lost.is_empty() {
        return Ok(());
    }

    let entries = lost.iter().map(|(_, lost)| &lost.entry);
    let mut candidates = Candidates::new(entries, listing, kinds, progress)?;
    progress.begin("searching files", lost.len());
    let mut misses = Vec::new();
    for (index, lost) in lost {
        let watch = &mut watches[index];
        let entry = &lost.entry;
        let places = candidates.search(entry, kinds, |place| watch.compare(place, entry))?;
        misses.extend(watch.look_at(lost, places)?.map(|miss| (index, miss)));
        progress.step();
    }
    // The order may look right even if files were replaced. Rely on it only if comparing the misses
    // with all candidates takes too many calls.
    let counts = (misses.iter())
        .map(|(index, miss)| candidates.count(miss.entry(), watches[*index].scope(miss), kinds));
    let is_comparing = counts.sum::<usize>() <= PATIENCE;
    for (index, miss) in misses {
        let watch = &mut watches[index];
        let (entry, scope) = (miss.entry(), watch.scope(&miss));
        // A socket has one file: if its inode is listed, the file is open there.
        if kinds.is_socket(entry) && candidates.count(entry, scope, kinds) > 0 {
            watch.see(&miss);
            continue;
        }
        let is_missed = if is_comparing {
            let compare = |place: &Place| watch.compare(place, entry);
            !candidates.is_anywhere(entry, scope, kinds, compare)?
        } else {
            candidates.is_order_kept(entry, kinds)?
        };
        // Otherwise, the next round searches again.
        if is_missed {
            watch.miss(miss, candidates.is_quiet(scope));
        }
    }
    for watch in watches {
        watch.settle_elsewhere(listing);
    }
    Ok(())
}

/// Adds the addresses to the names of sockets.
fn add_addresses(epolls: &mut [Epoll]) {
    let mut sockets = Sockets::default();
    for epoll in epolls {
        let home = epoll.holders[0].table.pid;
        for row in &mut epoll.rows {
            // The process that has the socket open is usually in its network namespace.
            let pid = row.places.first().map_or(home, |place| place.table.pid);
            for (pid, name) in [(pid, Some(&mut row.file)), (home, row.stale.as_mut())] {
                if let Some(name) = name {
                    add_address(name, pid, &mut sockets);
                }
            }
        }
    }
}

fn add_address(name: &mut String, pid: Pid, sockets: &mut Sockets) {
    let inode = name::socket_inode(name);
    if let Some(address) = inode.and_then(|inode| sockets.address(pid, inode)) {
        name.push(' ');
        name.push_str(&address);
    }
}
