// SPDX-License-Identifier: GPL-2.0

//! The result of a search.

use crate::error::Error;
use crate::fdinfo::Entry;
use crate::process::Place;

/// All that was found.
#[derive(Default)]
pub struct Report {
    pub epolls: Vec<Epoll>,
    pub searched: Searched,
    /// Why some of what was selected is not there.
    pub errors: Vec<Error>,
}

impl Report {
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.epolls.iter().flat_map(|epoll| &epoll.rows)
    }
}

/// Where the search went.
#[derive(Default)]
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
    /// The length of the interest list. With --stale, not all have a row.
    pub entries: usize,
    pub rows: Vec<Row>,
}

impl Epoll {
    /// The number of entries that are known not to be in place.
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

/// From near to far.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd, Ord)]
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
