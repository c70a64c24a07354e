// SPDX-License-Identifier: GPL-2.0

//! An epoll instance that several processes share.

use crate::lsepoll::{lines, run};
use crate::process::{self, Pid};
use crate::scene::{self, Actor};
use crate::tap::{Outcome, contains, same};
use crate::ways::{A, B, C, EPOLL, add_eventfd, create, eventfd_name, move_file};

/// A child of a process, but not this one.
pub fn child(of: Pid, not: Pid) -> Option<Pid> {
    let is_child =
        |pid: &Pid| *pid != not && process::stat(*pid).is_ok_and(|stat| stat.parent == of);
    process::numbers("/proc").ok()?.into_iter().find(is_child)
}

/// A server whose master creates the epoll instance, and whose workers add their own files.
pub fn prefork() -> Outcome {
    let master = Actor::start("master", || {
        create()?;
        let worker = Actor::start("worker", || {
            add_eventfd(A)?;
            Ok(0)
        })?;
        let other = Actor::start("worker", || {
            add_eventfd(B)?;
            // As a worker of its own, it has another file at the fd of the first one.
            scene::place(scene::eventfd()?, A)?;
            Ok(0)
        })?;
        other.leave();
        Ok(worker.leave())
    })?;
    let (pid, worker) = (master.pid, master.told);
    let other = child(pid, worker).ok_or("no other worker")?;
    let (a, b) = (eventfd_name(worker, A)?, eventfd_name(other, B)?);
    let rows = |from: i32| {
        let place = |at: i32, fd: i32| match from == at {
            true => String::new(),
            false => format!(" | pid {at} (worker) fd {fd}"),
        };
        vec![
            format!("60 | IN | - | fd 60 | in place | {a}{}", place(worker, A)),
            format!("61 | IN | - | fd 61 | in place | {b}{}", place(other, B)),
        ]
    };
    for from in [pid, worker, other] {
        let from_pid = from.to_string();
        same(lines(&run(&[&from_pid])?.out)[4..].to_vec(), rows(from))?;
        run(&["--stale", &from_pid])?.quiet()?;
    }
    Ok(())
}

/// What is stale is stale from each holder.
pub fn stale() -> Outcome {
    let master = Actor::start("master", || {
        create()?;
        add_eventfd(A)?;
        let worker = Actor::start("worker", || move_file(A, C).map(|()| 0))?;
        scene::close(A)?;
        Ok(worker.leave())
    })?;
    for pid in [master.pid, master.told] {
        let ran = run(&["--stale", &pid.to_string()])?;
        same(ran.status, Some(1))?;
        contains(
            &ran.out,
            &format!("fd {EPOLL}: 1 entry, 1 stale: 1 moved\n"),
        )?;
    }
    Ok(())
}
