// SPDX-License-Identifier: GPL-2.0

//! The number of kcmp(2) calls.

use crate::lsepoll::run;
use crate::process::Fd;
use crate::scene::{self, Actor};
use crate::tap::{Outcome, contains, same};
use crate::ways::{EPOLL, create};
use std::error::Error;

/// The number of kcmp(2) calls that --verbose prints, and the output.
pub fn count(pid: &str) -> Result<(u64, String), Box<dyn Error>> {
    let ran = run(&["--verbose", pid])?;
    let calls = ran
        .err
        .split(", ")
        .find_map(|part| part.split_once(" kcmp(2) call"));
    let (calls, _) = calls.ok_or(ran.err.clone())?;
    Ok((calls.parse()?, ran.out))
}

/// Files of one kind: in place, then each moved to the fd of the one before it, then each open in a
/// child only.
///
/// `LSEPOLL_TEST_ENTRIES` sets their number, for a slow machine.
pub fn calls() -> Outcome {
    const FIRST: Fd = 100;
    let entries: Fd = match std::env::var("LSEPOLL_TEST_ENTRIES") {
        Ok(entries) => entries.parse()?,
        Err(_) => 10_000,
    };
    let fds = FIRST..FIRST + entries;
    let fill = || {
        scene::allow_files(FIRST as usize + entries as usize)?;
        create()?;
        for fd in fds.clone() {
            scene::place(scene::eventfd()?, fd)?;
            scene::add(EPOLL, fd, 0)?;
        }
        Ok(0)
    };
    let way = Actor::start("way", fill)?;
    let (in_place, out) = count(&way.pid.to_string())?;
    contains(&out, &format!("fd {EPOLL}: {entries} entries\n"))?;
    drop(way);

    let way = Actor::start("way", || {
        fill()?;
        for fd in fds.clone() {
            scene::dup2(fd, fd - 1)?;
        }
        scene::close(fds.end - 1)?;
        Ok(0)
    })?;
    let (moved, out) = count(&way.pid.to_string())?;
    contains(
        &out,
        &format!("fd {EPOLL}: {entries} entries, {entries} stale: {entries} moved\n"),
    )?;
    let rows: Vec<_> = out
        .lines()
        .filter(|line| line.contains("  moved  "))
        .collect();
    same(rows.len(), entries as usize)?;
    for (fd, row) in fds.clone().zip(rows) {
        same(
            row.trim_start().split(' ').next(),
            Some(fd.to_string().as_str()),
        )?;
        // The last fd is closed.
        match row.split_once("  fd ") {
            Some((_, place)) => {
                let expected = (fd - 1).to_string();
                same(place.split(';').next(), Some(expected.as_str()))?;
            }
            None => return Err(row.into()),
        }
    }

    drop(way);

    let way = Actor::start("way", || {
        fill()?;
        let child = Actor::start("child", || scene::close(EPOLL).map(|()| 0))?;
        fds.clone().try_for_each(scene::close)?;
        Ok(child.leave())
    })?;
    let (elsewhere, out) = count(&way.pid.to_string())?;
    let rows = out
        .lines()
        .filter(|line| line.contains("  elsewhere  [eventfd") && line.contains("(child) fd "));
    same(rows.count(), entries as usize)?;

    println!(
        "# {entries} entries: {in_place} calls in place, {moved} moved, {elsewhere} elsewhere"
    );
    // One for each entry. A few are for other processes.
    let entries = entries as u64;
    same(in_place < entries + 1000, true)?;
    // In addition, those to sort and to search, and one for each file that was found.
    let limit = 350_000 * entries / 10_000;
    same(moved < limit, true)?;
    same(elsewhere < limit, true)
}
