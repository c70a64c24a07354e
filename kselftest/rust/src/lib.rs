// SPDX-License-Identifier: GPL-2.0

//! What the programs here share.
//!
//! File descriptors are plain numbers throughout: the programs are about numbers that are reused,
//! closed elsewhere, and of other processes.

mod counts;
mod epoll;
mod failures;
mod files;
mod kcmp;
mod memory;
mod processes;
mod program;
mod scheduling;
mod sockets;
mod tap;

pub use counts::*;
pub use epoll::*;
pub use failures::*;
pub use files::*;
pub use kcmp::*;
pub use memory::*;
pub use processes::*;
pub use program::*;
pub use scheduling::*;
pub use sockets::*;
pub use tap::*;
