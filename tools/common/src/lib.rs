// SPDX-License-Identifier: GPL-2.0

//! Code that the kselftests share, and helpers for the tools only.

mod counts;
mod epoll;
mod files;
#[path = "../../../kselftest/rust/lib.rs"]
mod kselftest;
mod memory;
mod processes;
mod program;

pub use counts::*;
pub use epoll::*;
pub use files::*;
pub use kselftest::*;
pub use memory::*;
pub use processes::*;
pub use program::*;
