// SPDX-License-Identifier: GPL-2.0

//! The JSON that lsepoll prints: described in the manual page, and stable.

use crate::events;
use crate::name::device_numbers;
use crate::process::{Fd, Pid, Place};
use crate::report::{Epoll, Report, Row, Searched};
use serde::Serialize;
use std::io::{self, Write};

#[derive(Serialize)]
struct JsonEpoll<'a> {
    holders: Vec<JsonPlace<'a>>,
    entries: Vec<JsonEntry<'a>>,
    searched: &'a JsonSearched,
}

#[derive(Serialize)]
struct JsonPlace<'a> {
    pid: Pid,
    tid: Pid,
    comm: &'a str,
    fd: Fd,
}

#[derive(Serialize)]
struct JsonEntry<'a> {
    tfd: Fd,
    toff: u32,
    events: Vec<String>,
    data: String,
    state: &'static str,
    file: JsonFile<'a>,
    stale: Option<&'a str>,
    places: Vec<JsonPlace<'a>>,
}

#[derive(Serialize)]
struct JsonFile<'a> {
    name: &'a str,
    inode: u64,
    device: String,
}

#[derive(Serialize)]
struct JsonSearched {
    processes: usize,
    not_permitted: usize,
    hidden: bool,
}

fn places(places: &[Place]) -> Vec<JsonPlace<'_>> {
    places.iter().map(JsonPlace::from).collect()
}

impl<'a> From<&'a Place> for JsonPlace<'a> {
    fn from(place: &'a Place) -> JsonPlace<'a> {
        JsonPlace {
            pid: place.table.pid,
            tid: place.table.tid,
            comm: &place.table.comm,
            fd: place.fd,
        }
    }
}

impl<'a> From<&'a Row> for JsonEntry<'a> {
    fn from(row: &'a Row) -> JsonEntry<'a> {
        let entry = &row.entry;
        JsonEntry {
            tfd: entry.tfd,
            toff: entry.toff,
            events: events::names(entry.events),
            data: format!("{:#x}", entry.data),
            state: row.state.name(),
            file: JsonFile {
                name: &row.file,
                inode: entry.inode,
                device: device_numbers(entry.device),
            },
            stale: row.stale.as_deref(),
            places: places(&row.places),
        }
    }
}

pub fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Searched {
        processes,
        not_permitted,
        hidden,
        ..
    } = report.searched;
    let searched = JsonSearched {
        processes,
        not_permitted,
        hidden,
    };
    for Epoll { holders, rows, .. } in &report.epolls {
        let epoll = JsonEpoll {
            holders: places(holders),
            entries: rows.iter().map(JsonEntry::from).collect(),
            searched: &searched,
        };
        serde_json::to_writer(&mut *out, &epoll)?;
        writeln!(out)?;
    }
    Ok(())
}
