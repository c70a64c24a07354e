// SPDX-License-Identifier: GPL-2.0

//! All limits on time and work.

use std::time::Duration;

/// Rounds of a search. Entries that are not settled by then are unsettled.
pub const ROUNDS: u32 = 20;

/// An entry whose target file is not found is settled after this many rounds in which each file
/// that appeared, and could be its target, was compared.
pub const MISSES: u32 = 8;

/// How often an fd table is listed in a round if files vanish before they can be compared.
pub const LISTINGS: u32 = 10;

/// The maximum number of comparisons for one fd table in a round. Beyond it, files that were listed
/// there before are left out, and if that is not enough, the others are sorted.
pub const COMPARISONS: usize = 2_000;

/// The approximate number of lines of fdinfo to read again to confirm that entries stay the same,
/// and the range for the number of readings.
pub const CONFIRMED_LINES: usize = 30_000;
pub const CONFIRMATIONS: (usize, usize) = (1, 20);

/// How often the results for a short list are compared again.
pub const COMPARED_AGAIN: u32 = 2;

/// Instances with more entries than this are searched after all others, and compared once.
pub const LARGE: usize = 1_000;

/// How often --ready looks which files are ready, and how long it waits in between.
pub const LOOKS: u32 = 10;
pub const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Terminals with fewer columns do not get EVENTS and DATA.
pub const NARROW: u16 = 80;

/// When the progress bar appears.
pub const PROGRESS: Duration = Duration::from_secs(1);

/// The maximum number of fd tables in a cell of the table on a terminal, and of processes in a note.
pub const FEW: usize = 4;
