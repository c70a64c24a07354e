// SPDX-License-Identifier: GPL-2.0

//! Sets up processes with epoll entries in all states but unsettled, and checks the rows.

pub mod scene;

use crate::control::Control;
use crate::error::Error;
use crate::instance::{Row, State};
use crate::process::{Fd, Pid};
use crate::report::Reporter;
use crate::search::{self, Selection};
use crate::text::{self, Format};
use scene::Actor;
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
pub fn run(out: &mut impl Write, format: &Format) -> Result<bool, Error> {
    let error = |e| Error::Io("demo", e);
    let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM).map_err(error)?;
    let client = Actor::start("client", || client(ours)).map_err(error)?;
    let server = Actor::start("server", || server(theirs)).map_err(error)?;
    let child = server.told;

    let selection = Selection {
        pids: vec![server.pid],
        ..Selection::default()
    };
    let mut epolls = Vec::new();
    let mut reporter = Reporter::default();
    search::search(
        selection,
        &mut Control::new(None),
        &mut |found, listing, _| {
            epolls.push(reporter.report(found, listing));
            Ok(())
        },
    )?;

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
    let lines: Vec<_> = epolls.iter().flat_map(|epoll| &epoll.lines).collect();
    let is_right = |(data, expected): (usize, &_)| {
        let mut rows = lines.iter().map(|line| &line.row);
        let row = rows.find(|row| row.entry.data == data as u64);
        row.is_some_and(|row| *expected == summary(row))
    };
    let right = expected
        .iter()
        .enumerate()
        .filter(|row| is_right(*row))
        .count();
    out.write_all(STORY.as_bytes()).map_err(error)?;
    for epoll in &epolls {
        let lines: Vec<_> = epoll.lines.iter().collect();
        text::print(epoll, &lines, out, format).map_err(error)?;
    }
    writeln!(out, "\n{right} of {} rows are right.", lines.len()).map_err(error)?;
    Ok(right == expected.len() && lines.len() == expected.len())
}

/// The state, the only place, and whether the fd was reused.
fn summary(row: &Row) -> (State, Option<(Pid, Fd)>, bool) {
    let place = match &row.places[..] {
        [place] => Some((place.table.pid, place.fd)),
        _ => None,
    };
    (row.state, place, row.reused.is_some())
}
