// SPDX-License-Identifier: GPL-2.0

//! Finds out where the target files of epoll entries are open.
//!
//! Processes run meanwhile. So each answer stands between two looks at what it is about: at the
//! lines of fdinfo for an entry, at the link in /proc for a file. If these differ, the answer is
//! dropped, and asked for again in the next round.

use crate::error::Error;
use crate::fdinfo::{self, EPOLL_LINK, Entry};
use crate::kcmp;
use crate::name::{self, Kinds};
use crate::order::{self, Answer};
use crate::process::{self, Fd, Listing, Pid, Place};
use crate::progress::Progress;
use crate::sockets::Sockets;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::io;

/// How often to look for a file before it is said to be nowhere. A file that moves from fd to fd
/// all the time can escape one look, but hardly all of them.
const ROUNDS: u32 = 6;

/// Which epoll files to list. Empty lists and `None` do not narrow.
#[derive(Default)]
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

/// What there is to print.
pub struct Report {
    pub epolls: Vec<Epoll>,
    pub searched: Searched,
}

impl Report {
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.epolls.iter().flat_map(|epoll| &epoll.rows)
    }
}

/// Where the search went.
pub struct Searched {
    pub processes: usize,
    pub files: usize,
    /// Processes that the caller may not inspect.
    pub not_permitted: usize,
    /// Whether /proc hides other processes of which nothing is known.
    pub hidden: bool,
    pub rounds: u32,
}

/// An epoll file.
pub struct Epoll {
    /// Where it is open. The first place is the one from which the entries are seen.
    pub holders: Vec<Place>,
    pub rows: Vec<Row>,
}

impl Epoll {
    /// How many entries are known not to be in place.
    pub fn misplaced(&self) -> usize {
        self.rows
            .iter()
            .filter(|row| row.state.is_misplaced())
            .count()
    }
}

/// An entry, and where its target file is.
#[derive(Clone)]
pub struct Row {
    pub entry: Entry,
    pub state: State,
    /// The name of the target file.
    pub file: String,
    /// The name of another file to which the fd of the entry refers now.
    pub stale: Option<String>,
    /// Where the target file is open, that of the entry first, then those of its process.
    pub places: Vec<Place>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// The fd of the entry still refers to the target file.
    InPlace,
    /// Another fd of the same process does.
    Moved,
    /// Only fds of other processes do.
    Elsewhere,
    /// No fd of any process that was searched does.
    Nowhere,
    /// It changed each time that it was looked at.
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

    /// Whether the target file is known not to be in place.
    pub fn is_misplaced(self) -> bool {
        !matches!(self, State::InPlace | State::Unsettled)
    }
}

/// What is at an fd, compared with a target file.
#[derive(Clone)]
enum Seen {
    Target(String),
    OtherFile(String),
    Closed,
}

/// An entry whose fd does not refer to its target file.
#[derive(Clone)]
struct Lost {
    entry: Entry,
    stale: Option<String>,
}

type Key = (Fd, u32);

/// An epoll file that is being looked at.
struct Watch {
    holders: Vec<Place>,
    entries: Vec<Entry>,
    rows: HashMap<Key, Row>,
    /// How often the target file was found nowhere, and the fd of the entry at the last time.
    misses: HashMap<Key, (u32, Option<String>)>,
}

impl Watch {
    fn home(&self) -> &Place {
        &self.holders[0]
    }

    /// Reads the entries, and forgets what is known of those that differ from before.
    ///
    /// Returns false if the epoll file is gone.
    fn update(&mut self) -> Result<bool, Error> {
        let entries = loop {
            if let Some(entries) = fdinfo::read(self.home())? {
                break entries;
            }
            // Others may still have it, and no answer through this holder counts.
            self.entries.clear();
            if self.holders.len() == 1 {
                return Ok(false);
            }
            self.holders.remove(0);
            self.drop_other_holders()?;
        };
        // Entries with the same fd are told apart by how many come first. So if one of them
        // differs, none is known any more.
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
        self.entries = entries;
        Ok(true)
    }

    /// Drops the holders that have another file by now.
    fn drop_other_holders(&mut self) -> Result<(), Error> {
        let home = self.home().clone();
        let mut holders = vec![home.clone()];
        for holder in self.holders.drain(1..) {
            if let Some(Ordering::Equal) = ask(kcmp::compare_files(&home, &holder))? {
                holders.push(holder);
            }
        }
        self.holders = holders;
        Ok(())
    }

    fn unsettled(&self) -> Vec<Entry> {
        let is_unsettled = |entry: &&Entry| !self.rows.contains_key(&entry.key());
        self.entries.iter().filter(is_unsettled).cloned().collect()
    }

    /// Compares the file at a place with a target file. Returns `None` if either has changed
    /// meanwhile.
    fn look(&self, place: &Place, entry: &Entry) -> Result<Option<Seen>, Error> {
        let Some(name) = name::of(place) else {
            return Ok(Some(Seen::Closed));
        };
        let answer = kcmp::compare_entry(place, self.home(), entry.tfd, entry.toff);
        let answer = ask(answer)?;
        if name::of(place).as_ref() != Some(&name) {
            return Ok(None);
        }
        Ok(answer.map(|ordering| match ordering {
            Ordering::Equal => Seen::Target(name),
            Ordering::Less | Ordering::Greater => Seen::OtherFile(name),
        }))
    }

    /// Looks at the fd of an entry. Returns the entry if its file is not there.
    fn look_in_place(&mut self, entry: Entry) -> Result<Option<Lost>, Error> {
        let place = self.home().sibling(entry.tfd);
        let stale = match self.look(&place, &entry)? {
            Some(Seen::Target(file)) => {
                let row = Row {
                    state: State::InPlace,
                    file,
                    stale: None,
                    places: vec![place],
                    entry,
                };
                self.rows.insert(row.entry.key(), row);
                return Ok(None);
            }
            Some(Seen::OtherFile(name)) => Some(name),
            Some(Seen::Closed) => None,
            None => return Ok(None),
        };
        Ok(Some(Lost { entry, stale }))
    }

    /// Looks for the target file of an entry in sorted files.
    fn look_elsewhere<'a>(
        &mut self,
        lost: Lost,
        files: impl Iterator<Item = &'a mut Vec<Vec<Place>>>,
    ) -> Result<(), Error> {
        let Lost { entry, stale } = lost;
        let mut candidates = Vec::new();
        for files in files {
            let found = order::search(files, |place| {
                let home = self.home();
                match kcmp::compare_entry(place, home, entry.tfd, entry.toff) {
                    Err(e) if kcmp::is_no_entry(&e) => Ok(Answer::RightGone),
                    answer => Ok(ask(answer)?.map_or(Answer::LeftGone, Answer::from)),
                }
            })?;
            candidates.extend(found.into_iter().flatten().cloned());
        }

        let mut file = None;
        let mut places = Vec::new();
        for place in candidates {
            if let Some(Seen::Target(name)) = self.look(&place, &entry)? {
                file = Some(name);
                places.push(place);
            }
        }
        let Some(file) = file else {
            let misses = self.misses.entry(entry.key()).or_default();
            *misses = (misses.0 + 1, stale);
            return Ok(());
        };

        let home = self.home();
        let is_home = |place: &Place| place.table.tid == home.table.tid;
        let is_in_place = |place: &Place| is_home(place) && place.fd == entry.tfd;
        places.sort_by_key(|place| {
            let Place { table, fd } = place;
            (
                !is_in_place(place),
                !is_home(place),
                table.pid,
                table.tid,
                *fd,
            )
        });
        let state = match &places[0] {
            place if is_in_place(place) => State::InPlace,
            place if is_home(place) => State::Moved,
            _ => State::Elsewhere,
        };
        let row = Row {
            state,
            file,
            // It may have come back.
            stale: stale.filter(|_| state != State::InPlace),
            places,
            entry,
        };
        self.rows.insert(row.entry.key(), row);
        Ok(())
    }

    fn finish(mut self, rounds: u32, kinds: &Kinds) -> Result<Epoll, Error> {
        self.drop_other_holders()?;
        let rows = self.entries.iter().map(|entry| {
            if let Some(row) = self.rows.remove(&entry.key()) {
                // The events of now.
                let entry = entry.clone();
                return Row { entry, ..row };
            }
            let (state, stale) = match self.misses.remove(&entry.key()) {
                Some((misses, stale)) if misses == rounds => (State::Nowhere, stale),
                _ => (State::Unsettled, None),
            };
            Row {
                state,
                file: kinds.name_of_target(entry),
                stale,
                places: Vec::new(),
                entry: entry.clone(),
            }
        });
        Ok(Epoll {
            rows: rows.collect(),
            holders: self.holders,
        })
    }
}

impl From<Ordering> for Answer {
    fn from(ordering: Ordering) -> Answer {
        match ordering {
            Ordering::Less => Answer::Less,
            Ordering::Equal => Answer::Equal,
            Ordering::Greater => Answer::Greater,
        }
    }
}

/// Turns the errors that say that a file or an entry is gone into `None`.
fn ask(answer: io::Result<Ordering>) -> Result<Option<Ordering>, Error> {
    match answer {
        Ok(ordering) => Ok(Some(ordering)),
        Err(e) if kcmp::is_gone(&e) || kcmp::is_no_entry(&e) => Ok(None),
        Err(e) => Err(Error::Io("kcmp", e)),
    }
}

/// Compares two files for sorting.
fn compare_files(a: &Place, b: &Place) -> Result<Answer, Error> {
    if let Some(ordering) = ask(kcmp::compare_files(a, b))? {
        return Ok(ordering.into());
    }
    // kcmp(2) does not tell which of them it has not found.
    Ok(match ask(kcmp::compare_files(a, a))? {
        None => Answer::LeftGone,
        Some(_) => Answer::RightGone,
    })
}

/// Lists epoll files, and searches the target files of their entries.
pub fn search(selection: &Selection, progress: &mut Progress) -> Result<Report, Error> {
    let own = process::own_pid()?;
    kcmp::probe(own)?;
    let kinds = Kinds::probe().map_err(|e| Error::Io("/proc/self/fd", e))?;
    let selection = check(selection)?;

    let mut listing = process::list(own)?;
    let mut watches = watches(&selection, &listing)?;
    update(&mut watches)?;
    let mut rounds = 0;
    loop {
        rounds += 1;
        ask_round(&mut watches, &listing, &kinds, progress)?;
        update(&mut watches)?;
        if rounds == ROUNDS || watches.iter().all(|watch| watch.unsettled().is_empty()) {
            break;
        }
        listing = process::list(own)?;
    }

    let mut epolls = Vec::new();
    for watch in watches {
        epolls.push(watch.finish(rounds, &kinds)?);
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
    })
}

/// Checks that what the caller names is there, and replaces tids by pids.
fn check(selection: &Selection) -> Result<Selection, Error> {
    let mut pids = Vec::new();
    for &pid in &selection.pids {
        let process = process::process_of(pid)?;
        pids.push(process);
    }
    Ok(Selection {
        pids,
        name: selection.name.clone(),
        efd: selection.efd,
    })
}

/// The epoll files that are selected.
fn watches(selection: &Selection, listing: &Listing) -> Result<Vec<Watch>, Error> {
    let epolls = (listing.files.iter())
        .filter(|(_, link)| link == EPOLL_LINK)
        .map(|(place, _)| place.clone());
    let mut watches = Vec::new();
    for mut holders in order::sort(epolls, compare_files)? {
        // See the entries as the selected process does, or as the one that is likely to have added
        // them: the oldest one.
        holders.sort_by_key(|holder| {
            let Place { table, fd } = holder;
            (
                !selection.has(holder),
                table.started,
                table.pid,
                table.tid,
                *fd,
            )
        });
        if selection.has(&holders[0]) {
            watches.push(Watch {
                holders,
                entries: Vec::new(),
                rows: HashMap::new(),
                misses: HashMap::new(),
            });
        }
    }
    watches.sort_by_key(|watch| {
        let Place { table, fd } = watch.home();
        (table.pid, table.tid, *fd)
    });
    Ok(watches)
}

/// Updates all epoll files, and drops those that are gone.
fn update(watches: &mut Vec<Watch>) -> Result<(), Error> {
    for mut watch in std::mem::take(watches) {
        if watch.update()? {
            watches.push(watch);
        }
    }
    Ok(())
}

/// Asks once for each entry that is not settled.
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
            // Most files are in place. Entries with the same fd are asked for one after the other,
            // which the kernel answers fastest.
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
    for (index, lost) in lost {
        let files = candidates.of(lost.entry.inode);
        watches[index].look_elsewhere(lost, files)?;
        progress.step();
    }
    Ok(())
}

/// The files that may be the target of an entry, sorted by kcmp(2).
struct Candidates {
    /// By inode. Many files may share one: all eventfds do, for example.
    by_inode: HashMap<u64, Vec<Vec<Place>>>,
    /// Files of which the inode is not known.
    others: Vec<Vec<Place>>,
}

impl Candidates {
    fn new<'a>(
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
                compare_files(a, b)
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

    fn of(&mut self, inode: u64) -> impl Iterator<Item = &mut Vec<Vec<Place>>> {
        let by_inode = self.by_inode.get_mut(&inode);
        by_inode.into_iter().chain([&mut self.others])
    }
}

/// Adds the addresses to the names of sockets.
fn add_addresses(epolls: &mut [Epoll]) {
    let mut sockets = Sockets::default();
    for epoll in epolls {
        let home = epoll.holders[0].table.pid;
        for row in &mut epoll.rows {
            // The process that has the socket open mostly shares its network namespace.
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
        name.push_str(address);
    }
}
