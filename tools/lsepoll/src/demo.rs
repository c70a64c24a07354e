// SPDX-License-Identifier: GPL-2.0

//! Sets up processes with epoll entries in all states but unsettled, and checks the rows.

use crate::error::Error;
use crate::human;
use crate::process::{Fd, Pid};
use crate::progress::Progress;
use crate::report::{Row, State};
use crate::scene::{self, Actor};
use crate::search::{self, Selection};
use std::io::{self, Write};

const STORY: &str = "\
A server adds nine files to an epoll instance. DATA tells them apart:
  0     stays as it is
  1     is duplicated, and its fd closed
  2     is inherited by a child, and its fd closed in the server
  3..6  are sent by a client over a unix socket, received under the same fd
        each time, added, and closed
  7     is added under that fd too, duplicated, and its fd used for another file
  8     is sent over a unix socket, and its fd closed; nobody has received it

";

// The fds of the server.
const EPOLL: Fd = 50;
const KEPT: Fd = 60;
const DUPPED: Fd = 61;
const DUP: Fd = 161;
const IN_CHILD: Fd = 62;
const REUSED: Fd = 70;
const REUSED_DUP: Fd = 170;
const IN_FLIGHT: Fd = 80;
const MAILBOX: Fd = 90;

/// The sockets of the client are CLIENT, CLIENT + 1, and so on.
const CLIENT: Fd = 100;
const SENT: i32 = 4;

/// Opens an eventfd at `fd`, and adds it.
fn add_eventfd(fd: Fd, data: u64) -> io::Result<()> {
    scene::place(scene::eventfd()?, fd)?;
    scene::add(EPOLL, fd, data)
}

/// Sends SENT sockets, and holds them open.
fn client(channel: Fd) -> io::Result<Pid> {
    for i in 0..SENT {
        let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM)?;
        scene::place(theirs, CLIENT + i)?;
        scene::send_file(channel, CLIENT + i)?;
        scene::place(ours, CLIENT + 50 + i)?;
    }
    Ok(0)
}

/// Fills the interest list, and returns the pid of the child.
fn server(channel: Fd) -> io::Result<Pid> {
    scene::place(scene::epoll_create()?, EPOLL)?;

    add_eventfd(KEPT, 0)?;

    add_eventfd(DUPPED, 1)?;
    scene::dup2(DUPPED, DUP)?;
    scene::close(DUPPED)?;

    add_eventfd(IN_CHILD, 2)?;

    for data in 3..7 {
        scene::place(scene::receive_file(channel)?, REUSED)?;
        scene::add(EPOLL, REUSED, data)?;
        scene::close(REUSED)?;
    }
    add_eventfd(REUSED, 7)?;
    scene::dup2(REUSED, REUSED_DUP)?;
    scene::place(scene::eventfd()?, REUSED)?;

    add_eventfd(IN_FLIGHT, 8)?;
    let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM)?;
    scene::place(ours, MAILBOX)?;
    scene::place(theirs, MAILBOX + 1)?;
    scene::send_file(MAILBOX, IN_FLIGHT)?;
    scene::close(IN_FLIGHT)?;

    let child = Actor::start("child", || {
        // Otherwise, it would be listed with the server's files, too.
        for fd in [EPOLL, KEPT, DUP, REUSED, REUSED_DUP, MAILBOX, MAILBOX + 1] {
            scene::close(fd)?;
        }
        Ok(0)
    })?;
    scene::close(IN_CHILD)?;
    Ok(child.leave())
}

/// Runs the demo. Returns whether each row is right.
pub fn run(out: &mut impl Write, width: Option<u16>) -> Result<bool, Error> {
    let error = |e| Error::Io("demo", e);
    let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM).map_err(error)?;
    let client = Actor::start("client", || client(ours)).map_err(error)?;
    let server = Actor::start("server", || server(theirs)).map_err(error)?;
    let child = server.told;

    let selection = Selection {
        pids: vec![server.pid],
        ..Selection::default()
    };
    let report = search::search(&selection, &mut Progress::new())?;

    let expected = [
        (State::InPlace, Some((server.pid, KEPT)), false),
        (State::Moved, Some((server.pid, DUP)), false),
        (State::Elsewhere, Some((child, IN_CHILD)), false),
        (State::Elsewhere, Some((client.pid, CLIENT)), true),
        (State::Elsewhere, Some((client.pid, CLIENT + 1)), true),
        (State::Elsewhere, Some((client.pid, CLIENT + 2)), true),
        (State::Elsewhere, Some((client.pid, CLIENT + 3)), true),
        (State::Moved, Some((server.pid, REUSED_DUP)), true),
        (State::Nowhere, None, false),
    ];
    let mut seen = [0; 9];
    for row in report.rows() {
        let data = row.entry.data as usize;
        if expected
            .get(data)
            .is_some_and(|expected| *expected == summary(row))
        {
            seen[data] += 1;
        }
    }
    let right = seen.iter().filter(|count| **count == 1).count();
    let is_right = right == seen.len() && report.rows().count() == seen.len();

    out.write_all(STORY.as_bytes())
        .and_then(|()| human::print(&report, out, width))
        .and_then(|()| writeln!(out, "\n{right} of {} rows are right.", seen.len()))
        .map_err(error)?;
    Ok(is_right)
}

/// The state, the only place, and whether the fd is stale.
fn summary(row: &Row) -> (State, Option<(Pid, Fd)>, bool) {
    let place = match &row.places[..] {
        [place] => Some((place.table.pid, place.fd)),
        _ => None,
    };
    (row.state, place, row.stale.is_some())
}
