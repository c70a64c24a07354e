// SPDX-License-Identifier: GPL-2.0

//! Lists the files that epoll instances watch, and where they are open.
//!
//! The fd that an interest list records may be closed by now, or refer to another file. kcmp(2)
//! tells whether a file of a process is the one behind an entry.

pub mod args;
pub mod bytes;
pub mod candidates;
pub mod demo;
pub mod error;
pub mod events;
pub mod fdinfo;
pub mod human;
pub mod json;
pub mod kcmp;
pub mod man;
pub mod name;
pub mod nowhere;
pub mod order;
pub mod process;
pub mod progress;
pub mod report;
pub mod scene;
pub mod search;
pub mod sockets;
pub mod watch;
