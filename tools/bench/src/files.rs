// SPDX-License-Identifier: GPL-2.0

//! The files to add.

use kcmp_epoll::*;
use std::io;
use std::os::fd::{IntoRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// Which files are opened, and in which order they are used.
#[derive(Clone, Copy)]
pub enum Pattern {
    /// Eventfds, opened one after the other, and used in ascending order of fd.
    Ascending,
    /// The same, used in descending order of fd.
    Descending,
    /// Sockets from accept(), half of them closed and replaced: fd, address and order of use are
    /// unrelated.
    Sockets,
}

impl Pattern {
    pub const ALL: [Pattern; 3] = [Pattern::Ascending, Pattern::Descending, Pattern::Sockets];

    pub fn name(self) -> &'static str {
        match self {
            Pattern::Ascending => "eventfds ascending",
            Pattern::Descending => "eventfds descending",
            Pattern::Sockets => "sockets random",
        }
    }

    /// Opens `count` files. Returns those to use, in order, and others that only have to stay open.
    pub fn open(self, count: usize, rng: &mut Rng) -> io::Result<(Vec<RawFd>, Vec<RawFd>)> {
        match self {
            Pattern::Ascending => Ok((open_eventfds(count)?, Vec::new())),
            Pattern::Descending => {
                let mut fds = open_eventfds(count)?;
                fds.reverse();
                Ok((fds, Vec::new()))
            }
            Pattern::Sockets => open_sockets(count, rng),
        }
    }
}

pub fn open_eventfds(count: usize) -> io::Result<Vec<RawFd>> {
    (0..count).map(|_| eventfd()).collect()
}

pub fn close_all(fds: &[RawFd]) -> io::Result<()> {
    fds.iter().try_for_each(|&fd| close(fd))
}

/// Fisher-Yates.
fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.below(i + 1));
    }
}

/// Opens sockets by accept(). Returns them and their other ends.
fn open_sockets(count: usize, rng: &mut Rng) -> io::Result<(Vec<RawFd>, Vec<RawFd>)> {
    let address = SocketAddr::from_abstract_name("kcmp_epoll_bench")?;
    let listener = UnixListener::bind_addr(&address)?;
    let connect = || -> io::Result<(RawFd, RawFd)> {
        let client = UnixStream::connect_addr(&address)?;
        let (accepted, _) = listener.accept()?;
        Ok((accepted.into_raw_fd(), client.into_raw_fd()))
    };
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push(connect()?);
    }
    // Close a random half of them, and accept as many again.
    shuffle(&mut pairs, rng);
    for (accepted, client) in pairs.drain(count / 2..) {
        close(accepted)?;
        close(client)?;
    }
    while pairs.len() < count {
        pairs.push(connect()?);
    }
    shuffle(&mut pairs, rng);
    Ok(pairs.into_iter().unzip())
}
