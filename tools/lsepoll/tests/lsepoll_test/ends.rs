// SPDX-License-Identifier: GPL-2.0

//! Searches that end early, or find nothing: exit status and messages.

use crate::lsepoll::{Ran, command, program, run, run_as};
use crate::process::stat;
use crate::scene::{self, Actor};
use crate::tap::{Outcome, contains, same};
use crate::ways::{A, EPOLL, add_eventfd, create, move_file, moved_file, one_entry};
use std::error::Error;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub fn nothing_found() -> Outcome {
    let none = Actor::start("none", || Ok(0))?;
    let pid = none.pid.to_string();
    let ran = run(&[&pid])?;
    same((ran.out.as_str(), ran.status), ("", Some(0)))?;
    same(ran.err.as_str(), "lsepoll: no epoll instance found\n")?;
    let (found, summary) = run(&["--json", &pid])?.json()?;
    let summary = (
        &summary["instances"],
        &summary["complete"],
        &summary["status"],
    );
    same(
        (found.len(), summary),
        (0, (&0.into(), &true.into(), &0.into())),
    )
}

pub fn zombie() -> Outcome {
    let parent = Actor::start("parent", || {
        // SAFETY: This process is single-threaded, so the child may call any function.
        match unsafe { libc::fork() } {
            0 => scene::exit_at_once(0),
            pid => {
                let pid = scene::cvt(pid)?;
                let flags = libc::WEXITED | libc::WNOWAIT;
                // SAFETY: `siginfo_t` may be zero, and is valid for writing.
                scene::cvt(unsafe {
                    libc::waitid(
                        libc::P_PID,
                        pid as libc::id_t,
                        &mut std::mem::zeroed(),
                        flags,
                    )
                })?;
                Ok(pid)
            }
        }
    })?;
    let pid = parent.told.to_string();
    let message = format!("lsepoll: pid {pid}: a zombie, which has no files\n");
    run(&[&pid])?.fails_with(&message)?;
    run(&["--stale", &pid])?.fails_with(&message)
}

/// The executable and argv[0] name a process, too, in full.
pub fn names() -> Outcome {
    const COMM: &str = "another comm";
    const ARGV0: &str = "/opt/an argument of more than 15 characters";

    let way = Actor::start("way", || {
        create()?;
        let mut child = Command::new(std::env::current_exe()?);
        child
            .arg0(ARGV0)
            .args(["--hold", COMM])
            .stdout(Stdio::piped());
        let mut child = child.spawn()?;
        let mut byte = [0];
        io::Read::read_exact(
            &mut child.stdout.take().ok_or(io::ErrorKind::Other)?,
            &mut byte,
        )?;
        Ok(child.id() as libc::pid_t)
    })?;
    let executable = std::env::current_exe()?;
    let executable = executable.file_name().and_then(|name| name.to_str());
    let argv0 = ARGV0.rsplit('/').next();
    for name in [Some(COMM), executable, argv0].into_iter().flatten() {
        let found = run(&["--name", name])?;
        contains(&found.out, &format!("pid {} ", way.told)).map_err(|e| format!("{name}: {e}"))?;
    }
    let typo = run(&["--name", "an argument"])?;
    typo.fails_with("lsepoll: no process has the name \"an argument\"\n")?;
    // A name that is not UTF-8.
    const ODD: &[u8] = b"\xff\xfe";
    let odd = Actor::start("odd", || {
        create()?;
        std::fs::write("/proc/self/comm", ODD)?;
        Ok(0)
    })?;
    let mut by_name = command(&program(), &["--name"]);
    let found = by_name.arg(OsStr::from_bytes(ODD)).output()?;
    let out = String::from_utf8(found.stdout)?;
    contains(
        &out,
        &format!("pid {} (\\xff\\xfe), fd 50: 0 entries\n", odd.pid),
    )?;
    // A name in place of a PID.
    run(&["redis-server"])?.fails_with("--name redis-server")
}

const ENTRIES: libc::c_int = 500;

/// A process with so many entries that a search takes much longer than to start lsepoll.
fn large() -> io::Result<Actor> {
    Actor::start("large", || {
        scene::allow_files(ENTRIES as usize + 200)?;
        create()?;
        (100..100 + ENTRIES).try_for_each(add_eventfd)?;
        Ok(0)
    })
}

/// Measures how long a search takes.
fn duration(pid: libc::pid_t) -> Result<Duration, Box<dyn Error>> {
    let begin = Instant::now();
    run(&["--json", &pid.to_string()])?.json()?;
    Ok(begin.elapsed())
}

/// Times within a search that takes `whole`, anywhere in it by and by. The first one is early, when
/// lsepoll compares files.
fn within(whole: Duration, step: u32) -> Duration {
    whole.mul_f64((f64::from(step) * 0.618 + 0.618).fract())
}

/// Runs lsepoll, interferes after various times, and returns the first result that `is_wanted`.
/// `interfere` returns the large process if it still lives.
fn interfere(
    interfere: impl Fn(Actor, libc::pid_t) -> Option<Actor>,
    is_wanted: impl Fn(&Ran) -> bool,
) -> Result<(libc::pid_t, Ran), Box<dyn Error>> {
    let mut last = String::new();
    let actor = large()?;
    let whole = duration(actor.pid)?;
    let mut left = Some(actor);
    for step in 1..100 {
        let is_alive = |actor: &Actor| stat(actor.pid).is_ok_and(|stat| !stat.is_zombie());
        let actor = match left.take().filter(is_alive) {
            Some(actor) => actor,
            None => large()?,
        };
        let pid = actor.pid;
        let mut command = command(&program(), &["--json", &pid.to_string()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn()?;
        std::thread::sleep(within(whole, step));
        left = interfere(actor, child.id() as libc::pid_t);
        let ran = Ran::from(child.wait_with_output()?);
        if is_wanted(&ran) {
            return Ok((pid, ran));
        }
        last = format!("{:?} {}", ran.status, ran.err);
    }
    Err(format!("no run was interfered with, the last one: {last}").into())
}

pub fn process_ends() -> Outcome {
    let is_ended = |ran: &Ran| ran.err.contains("ended during the search");
    let (pid, ran) = interfere(
        |large, _| {
            drop(large);
            None
        },
        is_ended,
    )?;
    same(ran.status, Some(2))?;
    same(
        ran.err,
        format!("lsepoll: pid {pid}: ended during the search\n"),
    )?;
    let (_, summary) = crate::schema::check(&ran.out)?;
    same(summary["errors"].as_array().map(Vec::len), Some(1))?;

    // As a zombie, it has ended, too.
    let kill = |large: Actor, _| {
        // SAFETY: No memory is involved.
        unsafe { libc::kill(large.pid, libc::SIGKILL) };
        Some(large)
    };
    interfere(kill, is_ended).map(drop)
}

/// A process that ends during the search does not affect the entries of another one, which are
/// searched for among the same files.
pub fn other_process_ends() -> Outcome {
    const RUNS: u32 = 15;
    const FDS: std::ops::Range<libc::c_int> = 100..100 + ENTRIES;

    let ends = || {
        Actor::start("ends", || {
            scene::allow_files(2 * ENTRIES as usize + 200)?;
            create()?;
            FDS.clone().try_for_each(add_eventfd)?;
            FDS.clone().try_for_each(|fd| move_file(fd, fd + ENTRIES))?;
            Ok(0)
        })
    };
    let whole = duration(ends()?.pid)?;
    let mut ended = 0;
    for step in 0..RUNS {
        // The instances are searched in order of pid.
        let (other, way) = (ends()?, moved_file()?);
        let pids = [other.pid.to_string(), way.pid.to_string()];
        let mut command = command(&program(), &["--json", &pids[0], &pids[1]]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn()?;
        // In the first half, where files are searched for. Then, they are looked at again.
        std::thread::sleep(within(whole / 2, step));
        drop(other);
        let ran = Ran::from(child.wait_with_output()?);
        ended += i32::from(ran.err.contains("ended during the search"));
        let (found, _) = crate::schema::check(&ran.out)?;
        let found = (found.iter()).find(|epoll| epoll["holders"][0]["pid"] == way.pid);
        let entry = &found.ok_or("not found")?["entries"][0];
        same(&entry["state"], &"moved".into())?;
        same(&entry["tfd"], &A.into())?;
    }
    println!("# {ended} of {RUNS} processes ended during the search");
    same(ended > 0, true)
}

pub fn interrupted() -> Outcome {
    let interrupt = |large, lsepoll| {
        // SAFETY: No memory is involved.
        unsafe { libc::kill(lsepoll, libc::SIGINT) };
        Some(large)
    };
    let is_partial = |ran: &Ran| {
        let found = crate::schema::check(&ran.out);
        found.is_ok_and(|(found, summary)| !found.is_empty() && summary["unsettled"] != 0)
    };
    let (_, ran) = interfere(interrupt, is_partial)?;
    same(ran.status, Some(130))?;
    let (found, summary) = crate::schema::check(&ran.out)?;
    same(summary["complete"].as_bool(), Some(false))?;
    same(
        found[0]["entries"].as_array().map(Vec::len),
        Some(ENTRIES as usize),
    )
}

pub fn timeout() -> Outcome {
    const LATE: &str = "lsepoll: the time was over before all processes were listed\n";

    let way = one_entry()?;
    let pid = way.pid.to_string();
    let ran = run(&["--timeout", "0", &pid])?;
    same(ran.status, Some(3))?;
    contains(&ran.err, LATE)?;
    let in_time = run(&["--timeout", "100", &pid])?.quiet()?;
    contains(&in_time, &format!("fd {EPOLL}: 1 entry\n"))?;
    run(&["--timeout", "-1"])?.fails_with("-1")?;
    // What was not listed is not missing.
    for selected in [&[&pid, "--fd", "50"][..], &["--name", "way"]] {
        let ran = run(&[&["--timeout", "0"], selected].concat())?;
        same(ran.status, Some(3))?;
        contains(&ran.err, LATE)?;
    }

    // Some are settled, and the rest is listed, too: approach a time when that is so.
    let large = large()?;
    let pid = large.pid.to_string();
    let whole = duration(large.pid)?;
    let (mut time, mut step) = (whole / 2, whole / 4);
    for _ in 0..100 {
        let seconds = time.as_secs_f64().to_string();
        let command = command(&program(), &["--json", "--timeout", &seconds, &pid]);
        let ran = run_as(command)?;
        let (found, summary) = crate::schema::check(&ran.out)?;
        let unsettled = summary["unsettled"].as_u64().ok_or("unsettled")?;
        if (1..ENTRIES as u64).contains(&unsettled) {
            same(ran.status, Some(3))?;
            let entries = found[0]["entries"].as_array().map(Vec::len);
            return same(entries, Some(ENTRIES as usize));
        }
        let is_late = !found.is_empty() && unsettled == 0;
        time = match is_late {
            true => time.saturating_sub(step),
            false => time + step,
        };
        step = (step / 2).max(whole / 64);
    }
    Err("no time was right".into())
}
