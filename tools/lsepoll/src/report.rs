// SPDX-License-Identifier: GPL-2.0

//! The result of a search.

use crate::error::Error;
use crate::fdinfo::Entry;
use crate::process::Place;

/// The epoll files that were found, and what was searched.
#[derive(Default)]
pub struct Report {
    pub epolls: Vec<Epoll>,
    pub searched: Searched,
    /// Why some of the selected processes or fds are missing.
    pub errors: Vec<Error>,
}

impl Report {
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.epolls.iter().flat_map(|epoll| &epoll.rows)
    }
}

/// The scope of the search.
#[derive(Default)]
pub struct Searched {
    pub processes: usize,
    pub files: usize,
    /// Processes that the caller may not inspect.
    pub not_permitted: usize,
    /// Whether /proc hides processes, which are not counted.
    pub hidden: bool,
    pub rounds: u32,
}

/// An epoll file.
pub struct Epoll {
    /// Where it is open. States are as seen from the first place.
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
    /// Where the target file is open: the fd of the entry first, then others in the same fd table.
    pub places: Vec<Place>,
}

/// Ordered from near to far.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd, Ord)]
pub enum State {
    /// The fd of the entry still refers to the target file.
    InPlace,
    /// Another fd of the same process does.
    Moved,
    /// Only fds of other processes do, or of a thread with its own fd table.
    Elsewhere,
    /// No fd of any process that was searched does.
    Nowhere,
    /// The entry, or a file that might be its target, kept changing.
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
