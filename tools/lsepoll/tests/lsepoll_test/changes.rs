// SPDX-License-Identifier: GPL-2.0

//! Interest lists and files that change all the time.

use crate::lsepoll::run;
use crate::process::{Fd, Pid};
use crate::scene::{self, Actor};
use crate::tap::{Outcome, same};
use crate::ways::{EPOLL, add_eventfd, create, eventfd_name, move_file};
use serde_json::Value;
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

const SECONDS: u64 = 10;

/// The fds of entries that do not change.
const IN_PLACE: Fd = 60;
const MOVED: Fd = 61;
const STALE: Fd = 62;
const ELSEWHERE: Fd = 63;
const NOWHERE: Fd = 64;
/// Entries whose files move all the time, to fd + 100 and back. That of INHERITED is open in the
/// child, too.
const INHERITED: Fd = 65;
const MOVING: Fd = 66;
/// From AWAY + 100 to AWAY + 200 and back.
const AWAY: Fd = 67;
/// Files at SHARED_FILES and after it come and go as entries of fd SHARED.
const SHARED: Fd = 70;
const SHARED_FILES: Fd = 200;
const SHARED_COUNT: i32 = 5;

/// Sets up the entries that do not change. Returns the child that has the file of ELSEWHERE open.
fn set_up() -> io::Result<Actor> {
    create()?;
    for fd in IN_PLACE..=AWAY {
        add_eventfd(fd)?;
    }
    let child = Actor::start("child", || {
        for fd in [EPOLL, IN_PLACE, MOVED, STALE, NOWHERE, MOVING, AWAY] {
            scene::close(fd)?;
        }
        Ok(0)
    })?;
    scene::close(ELSEWHERE)?;
    move_file(AWAY, AWAY + 100)?;
    move_file(MOVED, MOVED + 100)?;
    move_file(STALE, STALE + 100)?;
    scene::place(scene::eventfd()?, STALE)?;
    let [ours, theirs] = scene::socketpair(libc::SOCK_STREAM)?;
    scene::place(ours, 90)?;
    scene::place(theirs, 91)?;
    scene::send_file(90, NOWHERE)?;
    scene::close(NOWHERE)?;
    for fd in (SHARED_FILES..).take(SHARED_COUNT as usize) {
        scene::place(scene::eventfd()?, fd)?;
    }
    Ok(child)
}

/// Changes the list and the files until it is killed.
fn change() -> io::Result<()> {
    let mut state = 1u64;
    let mut is_added = [false; SHARED_COUNT as usize];
    let mut events = 0;
    loop {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        let i = (state >> 33) as usize % is_added.len();

        // toff of other entries changes with each of these.
        let file = SHARED_FILES + i as Fd;
        scene::dup2(file, SHARED)?;
        if is_added[i] {
            scene::delete(EPOLL, SHARED)?;
        } else {
            scene::add(EPOLL, SHARED, file as u64)?;
        }
        is_added[i] = !is_added[i];

        for from in [INHERITED, MOVING, AWAY + 100] {
            move_file(from, from + 100)?;
            move_file(from + 100, from)?;
        }
        events ^= libc::EPOLLOUT as u32;
        scene::epoll_ctl(
            EPOLL,
            libc::EPOLL_CTL_MOD,
            IN_PLACE,
            events,
            IN_PLACE as u64,
        )?;

        match i {
            // Files of the same kind come and go.
            0 => scene::place(scene::eventfd()?, 300 + (state >> 40) as Fd % 8)?,
            // So do processes that inherit all files.
            1 if state >> 60 == 0 => drop(Actor::start("short", || Ok(0))?),
            _ => {}
        }
    }
}

/// Checks an entry. Returns whether it is settled.
fn check(entry: &Value, pid: Pid, child: Pid) -> Result<bool, Box<dyn Error>> {
    let tfd = entry["tfd"].as_i64().ok_or("no tfd")? as Fd;
    let state = entry["state"].as_str().ok_or("no state")?;
    let place = entry["places"]
        .get(0)
        .map(|place| (place["pid"].clone(), place["fd"].clone()));
    let found = (state, !entry["reused"].is_null(), place);
    let at = |pid: Pid, fd: Fd| Some((pid.into(), fd.into()));
    match tfd {
        IN_PLACE => same(found, ("in place", false, at(pid, tfd)))?,
        MOVED => same(found, ("moved", false, at(pid, tfd + 100)))?,
        STALE => same(found, ("moved", true, at(pid, tfd + 100)))?,
        // Other files of its kind move in its process, perhaps in all rounds of a run.
        ELSEWHERE | NOWHERE if state == "unsettled" => return Ok(false),
        ELSEWHERE => same(found, ("elsewhere", false, at(child, tfd)))?,
        NOWHERE => same(found, ("nowhere", false, None))?,
        _ if state == "unsettled" => return Ok(false),
        INHERITED | MOVING => {
            let is_in_place = state == "in place";
            let state = if is_in_place { "in place" } else { "moved" };
            let fd = if is_in_place { tfd } else { tfd + 100 };
            same(found, (state, false, at(pid, fd)))?;
        }
        AWAY => {
            // It may be found at both.
            let is_far = found.2 == at(pid, tfd + 200);
            let fd = if is_far { tfd + 200 } else { tfd + 100 };
            same(found, ("moved", false, at(pid, fd)))?;
        }
        SHARED => {
            // The data is the fd of the file.
            let data = entry["data"]
                .as_str()
                .and_then(|data| data.strip_prefix("0x"));
            let fd = Fd::from_str_radix(data.ok_or("no data")?, 16)?;
            let name = eventfd_name(pid, fd)?;
            same(entry["file"]["name"].as_str(), Some(name.as_str()))?;
            if state == "in place" {
                same(found.2, at(pid, SHARED))?;
            } else {
                same(found, ("moved", true, at(pid, fd)))?;
            }
        }
        _ => return Err("an entry that was never added".into()),
    }
    Ok(true)
}

pub fn changes() -> Outcome {
    let way = Actor::start("way", || {
        let child = set_up()?;
        std::thread::spawn(|| {
            if let Err(e) = change() {
                eprintln!("change: {e}");
            }
            scene::exit_at_once(1);
        });
        Ok(child.leave())
    })?;
    let pid = way.pid.to_string();
    let (mut runs, mut settled, mut unsettled, mut unsettled_away) = (0, 0, 0, 0);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(SECONDS) {
        // All processes, every now and then.
        let args: &[&str] = if runs % 4 == 3 { &[] } else { &[&pid] };
        let found = run(&[&["--json"], args].concat())?.json()?.0;
        let found = found
            .iter()
            .find(|epoll| epoll["holders"][0]["pid"] == way.pid);
        let entries = found
            .and_then(|epoll| epoll["entries"].as_array())
            .ok_or("no entries")?;
        for entry in entries {
            match check(entry, way.pid, way.told).map_err(|e| format!("{e}\nin {entry}"))? {
                true => settled += 1,
                false => {
                    unsettled += 1;
                    unsettled_away +=
                        i32::from(entry["tfd"] == ELSEWHERE || entry["tfd"] == NOWHERE);
                }
            }
        }
        // All entries that do not come and go, each once.
        let mut stay: Vec<_> = entries
            .iter()
            .filter_map(|entry| entry["tfd"].as_i64())
            .collect();
        stay.retain(|tfd| *tfd != i64::from(SHARED));
        same(stay, (IN_PLACE..=AWAY).map(i64::from).collect())?;
        runs += 1;
    }
    println!("# {runs} runs, {settled} entries settled, {unsettled} unsettled");
    if 4 * unsettled_away > runs {
        return Err(format!(
            "files elsewhere or nowhere were unsettled in {unsettled_away} of {runs} runs"
        )
        .into());
    }
    Ok(())
}

/// Passes a file on. Each process closes it when the next one has it.
fn pass_on(from: Fd, to: Fd) -> io::Result<()> {
    loop {
        let file = scene::receive_file(from)?;
        scene::send_pid(from, 0)?;
        // Any faster, and no search could be sure to find it.
        std::thread::sleep(Duration::from_millis(20));
        scene::send_file(to, file)?;
        scene::receive_pid(to)?;
        scene::close(file)?;
    }
}

/// Adds a file, and lets processes pass it round.
fn pass_round(file: Fd) -> io::Result<()> {
    const PROCESSES: usize = 10;

    create()?;
    scene::place(file, AWAY)?;
    scene::add(EPOLL, AWAY, 0)?;
    let mut links = Vec::new();
    for _ in 0..PROCESSES {
        links.push(scene::socketpair(libc::SOCK_STREAM)?);
    }
    for i in 0..PROCESSES {
        let (from, to) = (links[i][1], links[(i + 1) % PROCESSES][0]);
        let member = Actor::start("member", || {
            scene::close(EPOLL)?;
            scene::close(AWAY)?;
            std::thread::spawn(move || {
                let _ = pass_on(from, to);
            });
            Ok(0)
        })?;
        member.leave();
    }
    scene::send_file(links[0][0], AWAY)?;
    scene::receive_pid(links[0][0])?;
    scene::close(AWAY)
}

/// Checks that a file which is always open somewhere is not reported as nowhere.
fn is_found(open: fn() -> io::Result<Fd>) -> Outcome {
    const RUNS: u32 = 10;

    let way = Actor::start("way", || open().and_then(pass_round).map(|()| 0))?;
    let mut unsettled = 0;
    for _ in 0..RUNS {
        let found = run(&["--json", &way.pid.to_string()])?.json()?.0;
        let state = &found[0]["entries"][0]["state"];
        if state == "unsettled" {
            unsettled += 1;
        } else {
            same(state.as_str(), Some("elsewhere"))?;
        }
    }
    println!("# {unsettled} of {RUNS} runs could not settle it");
    Ok(())
}

pub fn eventfd_passed_round() -> Outcome {
    is_found(scene::eventfd)
}

pub fn socket_passed_round() -> Outcome {
    is_found(|| scene::socketpair(libc::SOCK_STREAM).map(|[ours, _]| ours))
}
