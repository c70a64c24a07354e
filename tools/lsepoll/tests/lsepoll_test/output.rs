// SPDX-License-Identifier: GPL-2.0

//! Output and exit status of lsepoll.

use crate::lsepoll::{command, lines, program, run};
use crate::process::Fd;
use crate::scene::{self, Actor};
use crate::schema;
use crate::tap::{Outcome, contains, same, skip};
use crate::ways::{A, B, C, EPOLL, add_eventfd, create, eventfd_name, move_file, one_entry};
use serde_json::json;
use std::error::Error;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd};

pub fn demo() -> Outcome {
    let out = run(&["--demo"])?.quiet()?;
    contains(&out, "\n9 of 9 rows are right.\n")
}

/// A process with one entry in place, and one that has moved while its fd was reused.
fn two_entries() -> io::Result<Actor> {
    Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        add_eventfd(B)?;
        move_file(B, C)?;
        scene::place(scene::eventfd()?, B)?;
        Ok(0)
    })
}

pub fn json() -> Outcome {
    let way = two_entries()?;
    let pid = way.pid;
    let (found, summary) = run(&["--json", &pid.to_string()])?.json()?;
    let [found] = &found[..] else {
        return Err("not one epoll instance".into());
    };
    let name = |fd| eventfd_name(pid, fd);
    let place = |fd: Fd| json!({ "pid": pid, "tid": pid, "comm": "way", "fd": fd });
    let file = |name: String| {
        let file = &found["entries"][0]["file"];
        json!({
            "name": name, "kind": "eventfd", "path": null, "deleted": false, "protocol": null,
            "local": null, "remote": null, "state": null, "peers": [],
            "inode": file["inode"], "device": file["device"],
        })
    };
    let whole = found;
    let mut found = whole.clone();
    for entry in 0..2 {
        let file = found["entries"][entry]["file"].as_object_mut();
        let details = file
            .and_then(|file| file.remove("details"))
            .ok_or("no details")?;
        same(details["count"].as_str(), Some("0"))?;
    }
    let now = found["entries"][1]["reused"]["file"].take();
    same(now["name"].as_str(), Some(name(B)?.as_str()))?;
    let mut reused = place(B);
    reused["file"] = serde_json::Value::Null;
    let expected = json!({
        "advice": found["advice"],
        "holders": [place(EPOLL)],
        "entries": [
            {
                "tfd": A, "toff": 0, "events": ["IN", "ERR", "HUP"], "ready": [], "looks": null,
                "data": "0x3c", "data_is": "fd", "state": "in place", "stale": false,
                "file": file(name(A)?), "reused": null, "places": [place(A)], "held_by": [],
            },
            {
                "tfd": B, "toff": 0, "events": ["IN", "ERR", "HUP"], "ready": [], "looks": null,
                "data": "0x3d", "data_is": "fd", "state": "moved", "stale": true,
                "file": file(name(C)?), "reused": reused, "places": [place(C)], "held_by": [],
            },
        ],
    });
    same(&found, &expected)?;
    let counts = ["instances", "entries", "stale", "unsettled"].map(|name| summary[name].as_u64());
    same(counts, [Some(1), Some(2), Some(1), Some(0)])?;
    // The check would be worthless if anything fitted the schema.
    let mut wrong = whole.clone();
    wrong["entries"][0]["state"] = "lost".into();
    match schema::check(&wrong.to_string()) {
        Err(e) => contains(&e.to_string(), "\"lost\" does not fit enum"),
        Ok(_) => Err("a wrong state fits the schema".into()),
    }
}

/// The number of headings.
fn headings(out: &str) -> usize {
    out.lines().filter(|line| line.starts_with("pid ")).count()
}

pub fn selection() -> Outcome {
    let one = two_entries()?;
    let other = Actor::start("lsepoll other", || {
        create()?;
        scene::place(scene::epoll_create()?, EPOLL + 1)?;
        Ok(0)
    })?;
    let (one, other) = (one.pid.to_string(), other.pid.to_string());
    let count = |args: &[&str]| Ok::<_, Box<dyn Error>>(headings(&run(args)?.quiet()?));
    same(count(&[&one])?, 1)?;
    same(count(&[&other])?, 2)?;
    same(count(&[&one, &other])?, 3)?;
    same(count(&[&other, "--fd", "51"])?, 1)?;
    same(count(&["--name", "lsepoll other", &one, &other])?, 2)?;
    let all = run(&[])?;
    contains(
        &all.out,
        &format!("pid {one} (way), fd 50: 2 entries, 1 stale: 1 moved"),
    )?;
    contains(
        &all.out,
        &format!("pid {other} (lsepoll other), fd 51: 0 entries"),
    )?;
    let named = run(&["--name", "lsepoll other"])?.out;
    same(headings(&named), 2)?;

    let typo = "lsepoll nobody has this name";
    run(&["--name", typo])?.fails_with(&format!("lsepoll: no process has the name {typo:?}\n"))?;
    let (found, summary) = schema::check(&run(&["--json", "--name", typo])?.out)?;
    same((found.len(), summary["status"].as_u64()), (0, Some(2)))
}

pub fn stale() -> Outcome {
    let way = two_entries()?;
    let pid = way.pid.to_string();
    let found = run(&["--stale", &pid])?;
    let (file, now) = (eventfd_name(way.pid, C)?, eventfd_name(way.pid, B)?);
    let expected = [
        format!("pid {pid} (way), fd 50: 2 entries, 1 stale: 1 moved"),
        String::new(),
        "FD | EVENTS | READY | DATA | STATE | FILE | WHERE".to_string(),
        format!("61 | IN | - | fd 61 | moved | {file} | fd 70; fd 61 is now {now}"),
    ];
    same(
        (lines(&found.out), found.status),
        (expected.to_vec(), Some(1)),
    )?;
    let found = run(&["--stale", "--json", &pid])?;
    same(found.status, Some(1))?;
    same(
        schema::check(&found.out)?.0[0]["entries"]
            .as_array()
            .map(Vec::len),
        Some(1),
    )?;

    let way = one_entry()?;
    let pid = way.pid.to_string();
    same(run(&["--stale", &pid])?.quiet()?, String::new())?;
    let (found, summary) = run(&["--stale", "--json", &pid])?.json()?;
    same((found.len(), summary["entries"].as_u64()), (0, Some(1)))
}

/// The two ends of a pseudoterminal: for the terminal, and for the program that runs in it.
fn pseudo_terminal(columns: u16) -> io::Result<(File, OwnedFd)> {
    let (mut ours, mut theirs) = (0, 0);
    let size = libc::winsize {
        ws_row: 25,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: All pointers are valid for the duration of the call, or null.
    let opened = unsafe {
        libc::openpty(
            &mut ours,
            &mut theirs,
            std::ptr::null_mut(),
            std::ptr::null(),
            &size,
        )
    };
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: openpty() has opened both, and nothing else owns them.
    Ok(unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) })
}

/// Runs lsepoll in a terminal, and returns what it displays.
fn run_in_terminal(columns: u16, args: &[&str]) -> Result<String, Box<dyn Error>> {
    let Ok((mut screen, terminal)) = pseudo_terminal(columns) else {
        return skip("no pseudoterminals");
    };
    let mut child = command(&program(), args)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdout(terminal.try_clone()?)
        .stderr(terminal)
        .spawn()?;
    let mut shown = Vec::new();
    // Ends with EIO when lsepoll has closed the terminal.
    let _ = screen.read_to_end(&mut shown);
    child.wait()?;
    Ok(String::from_utf8(shown)?.replace("\r\n", "\n"))
}

/// Removes the escape sequences for colors.
fn without_colors(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or("").to_string();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

pub fn terminal() -> Outcome {
    let way = two_entries()?;
    let pid = way.pid.to_string();
    let plain = run(&[&pid])?.quiet()?;
    same(plain.contains('\x1b'), false)?;
    // Yellow.
    let moved = "\x1b[33mmoved\x1b[0m";
    contains(&run(&["--color", "always", &pid])?.quiet()?, moved)?;

    let wide = run_in_terminal(400, &[&pid])?;
    contains(&wide, moved)?;
    same(without_colors(&wide), plain.clone())?;
    same(
        run_in_terminal(400, &["--color", "never", &pid])?.contains('\x1b'),
        false,
    )?;

    // The command to copy is one line.
    let is_command = |line: &&str| line.starts_with("  gdb -p ");
    let command = |text: &str| text.lines().find(is_command).map(str::to_string);
    let widest = |text: &str| {
        let lines = text.lines().filter(|line| !is_command(line));
        lines.map(|line| line.chars().count()).max()
    };
    let narrow = without_colors(&run_in_terminal(80, &[&pid])?);
    same((70..=80).contains(&widest(&narrow).unwrap_or(0)), true)?;
    // The same words.
    let words = |text: &str| {
        let mut words: Vec<_> = text.split_whitespace().map(str::to_string).collect();
        words.sort();
        words
    };
    same(words(&narrow), words(&plain))?;
    same(command(&plain).is_some(), true)?;
    same(command(&narrow), command(&plain))?;

    // Without EVENTS and DATA, and still readable.
    let narrowest = without_colors(&run_in_terminal(60, &[&pid])?);
    same(widest(&narrowest) <= Some(60), true)?;
    contains(&narrowest, "\nFD  READY  STATE     FILE ")?;
    contains(&narrowest, "61  -      moved     [eventfd:")
}

/// Names that must not reach a terminal unescaped.
pub fn odd_names() -> Outcome {
    const PATH: &CStr = c"/tmp/lsepoll\x1b[31m\ntest";
    let way = Actor::start("a\x1b[2J)\nb", || {
        create()?;
        // SAFETY: `PATH` is valid for the duration of the calls.
        let fd = unsafe {
            libc::mkfifo(PATH.as_ptr(), 0o600);
            libc::open(PATH.as_ptr(), libc::O_RDWR)
        };
        fs::remove_file(PATH.to_str().map_err(io::Error::other)?)?;
        scene::place(fd, A)?;
        scene::add(EPOLL, A, 0)?;
        Ok(0)
    })?;
    let out = run(&[&way.pid.to_string()])?.quiet()?;
    contains(
        &out,
        &format!("pid {} (a\\u{{1b}}[2J)\\nb), fd 50: 1 entry\n", way.pid),
    )?;
    contains(&out, "in place  /tmp/lsepoll\\u{1b}[31m\\ntest (deleted)\n")?;
    // JSON has its own escapes.
    let found = run(&["--json", &way.pid.to_string()])?.json()?.0;
    let name = &found[0]["entries"][0]["file"]["name"];
    same(name.as_str(), Some("/tmp/lsepoll\x1b[31m\ntest (deleted)"))?;
    same(
        found[0]["holders"][0]["comm"].as_str(),
        Some("a\x1b[2J)\nb"),
    )
}

/// The manual page has what --help has.
pub fn manual_page() -> Outcome {
    let help = run(&["--help"])?.quiet()?;
    let page = run(&["--man"])?.quiet()?.replace('\\', "");
    for text in [
        "--stale",
        "CAP_SYS_PTRACE",
        "entries[].reused",
        "unsettled",
        "WHEN",
    ] {
        contains(&help, text)?;
        contains(&page, text)?;
    }
    contains(&page, ".TH lsepoll 1")?;
    contains(&page, "\n.SH \"EXIT STATUS\"\n")
}
