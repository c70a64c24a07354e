// SPDX-License-Identifier: GPL-2.0

//! What holds a file that no fd refers to.

use crate::lsepoll::run;
use crate::scene::{self, Actor};
use crate::tap::{Outcome, contains, same, skip};
use crate::ways::{A, C, EPOLL, add_eventfd, create, move_file};
use std::io;
use std::sync::mpsc;

/// A thread reads an eventfd while another one closes it.
pub fn system_call() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        add_eventfd(A)?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut word = 0u64;
            // SAFETY: `word` is valid for writing. The read does not return.
            unsafe {
                let _ = sender.send(libc::syscall(libc::SYS_gettid) as libc::pid_t);
                libc::read(A, (&raw mut word).cast(), 8);
            }
        });
        let tid = receiver.recv().map_err(io::Error::other)?;
        // Until the thread waits.
        while std::fs::read_to_string(format!("/proc/self/task/{tid}/stat"))?.contains(") R ") {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        scene::close(A)?;
        Ok(tid)
    })?;
    let (pid, tid) = (way.pid, way.told);
    let ran = run(&[&pid.to_string()])?;
    let place = format!("nowhere  anon_inode  read() in pid {pid} tid {tid} (way)\n");
    contains(&ran.out, &place)?;
    let (found, _) = run(&["--json", &pid.to_string()])?.json()?;
    let held = &found[0]["entries"][0]["held_by"];
    let expected = serde_json::json!([
        { "pid": pid, "tid": tid, "comm": "way", "syscall": "read", "mapping": null }
    ]);
    same(held, &expected)
}

/// Opens a software event, which counts nothing that needs hardware.
fn perf_event() -> io::Result<libc::c_int> {
    // struct perf_event_attr of linux/perf_event.h: PERF_TYPE_SOFTWARE, its size in the first
    // version, PERF_COUNT_SW_DUMMY. The flags exclude the kernel and the hypervisor.
    let mut attributes = [0u64; 8];
    let (kind, size) = (1u64, 64u64);
    attributes[0] = if cfg!(target_endian = "little") {
        kind | size << 32
    } else {
        kind << 32 | size
    };
    attributes[1] = 9;
    attributes[5] = 1 << 5 | 1 << 6;
    // SAFETY: `attributes` is as long as it says.
    let fd = unsafe {
        let attributes = attributes.as_ptr();
        libc::syscall(libc::SYS_perf_event_open, attributes, 0, -1, -1, 0)
    };
    scene::cvt(fd as libc::c_int)
}

pub fn mapping() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        let Ok(event) = perf_event() else {
            return Ok(0);
        };
        scene::place(event, A)?;
        scene::add(EPOLL, A, 0)?;
        // SAFETY: Without MAP_FIXED, this affects no other mapping.
        let memory = unsafe {
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                std::ptr::null_mut(),
                4096 * 2,
                rights,
                libc::MAP_SHARED,
                A,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Ok(0);
        }
        scene::close(A)?;
        Ok(1)
    })?;
    if way.told == 0 {
        return skip("no perf events here");
    }
    let pid = way.pid;
    let found = run(&[&pid.to_string()])?.out;
    let place = format!("anon_inode:[perf_event] mapped by pid {pid} (way)?\n");
    contains(&found, &format!("nowhere  anon_inode  {place}"))
}

/// An io_uring instance has an inode of its own, which identifies it without kcmp(2).
pub fn file_with_own_inode() -> Outcome {
    let way = Actor::start("way", || {
        create()?;
        for fd in [A, A + 1] {
            let mut parameters = [0u8; 120];
            // SAFETY: `parameters` is as long as struct io_uring_params.
            let ring =
                unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
            if ring < 0 {
                return Ok(0);
            }
            scene::place(ring as libc::c_int, fd)?;
            scene::add(EPOLL, fd, 0)?;
        }
        move_file(A, C)?;
        Ok(1)
    })?;
    if way.told == 0 {
        return skip("no io_uring here");
    }
    let found = run(&[&way.pid.to_string()])?.out;
    contains(
        &found,
        "60  IN      -       0x0  moved     [io_uring]  fd 70\n",
    )?;
    contains(&found, "61  IN      -       0x0  in place  [io_uring]\n")
}
