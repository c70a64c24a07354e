// SPDX-License-Identifier: GPL-2.0

//! Code that the tests in Rust and the benchmark share.

mod counts;
mod epoll;
mod files;
mod memory;
mod processes;
mod program;
mod testing;

pub use counts::*;
pub use epoll::*;
pub use files::*;
pub use memory::*;
pub use processes::*;
pub use program::*;
pub use testing::*;
