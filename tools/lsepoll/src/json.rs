// SPDX-License-Identifier: GPL-2.0

//! The JSON that lsepoll prints: described in the manual page, and stable.

use crate::advice;
use crate::bytes::Bytes;
use crate::events;
use crate::held::Held;
use crate::name::{File, Peer, device_numbers};
use crate::process::{Fd, Pid, Place, Table};
use crate::ready::Ready;
use crate::report::{Data, Epoll, Line};
use crate::summary::Summary;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

#[derive(Serialize)]
struct JsonEpoll<'a> {
    holders: Vec<JsonPlace<'a>>,
    entries: Vec<JsonEntry<'a>>,
    advice: Vec<String>,
}

#[derive(Serialize)]
struct JsonPlace<'a> {
    pid: Pid,
    tid: Pid,
    comm: &'a Bytes,
    fd: Fd,
}

#[derive(Serialize)]
struct JsonEntry<'a> {
    tfd: Fd,
    toff: u32,
    events: Vec<String>,
    ready: Option<Vec<String>>,
    looks: Option<(u32, u32)>,
    data: String,
    data_is: Option<&'static str>,
    state: &'static str,
    stale: bool,
    file: JsonTarget<'a>,
    reused: Option<JsonReused<'a>>,
    places: Vec<JsonPlace<'a>>,
    held_by: Vec<JsonHeld<'a>>,
}

#[derive(Serialize)]
struct JsonTarget<'a> {
    #[serde(flatten)]
    file: JsonFile<'a>,
    inode: u64,
    device: String,
}

#[derive(Serialize)]
struct JsonFile<'a> {
    name: Bytes,
    kind: &'a str,
    path: Option<&'a Bytes>,
    deleted: bool,
    protocol: Option<&'a str>,
    local: Option<&'a Bytes>,
    remote: Option<&'a Bytes>,
    state: Option<&'static str>,
    peers: Vec<JsonPeer<'a>>,
    details: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize)]
struct JsonPeer<'a> {
    pid: Pid,
    comm: &'a Bytes,
}

#[derive(Serialize)]
struct JsonReused<'a> {
    #[serde(flatten)]
    place: JsonPlace<'a>,
    file: JsonFile<'a>,
}

impl<'a> From<&'a File> for JsonFile<'a> {
    fn from(file: &'a File) -> JsonFile<'a> {
        let socket = file.socket.as_ref();
        let peer = |Peer { pid, comm }: &'a Peer| JsonPeer { pid: *pid, comm };
        JsonFile {
            name: file.text(),
            kind: &file.kind,
            path: file.path.as_ref(),
            deleted: file.deleted,
            protocol: socket.map(|socket| &*socket.protocol),
            local: socket.and_then(|socket| socket.local.as_ref()),
            remote: socket.and_then(|socket| socket.remote.as_ref()),
            state: socket.and_then(|socket| socket.state),
            peers: file.peers.iter().map(peer).collect(),
            details: (file.details.iter())
                .map(|(key, value)| (*key, value.as_str()))
                .collect(),
        }
    }
}

#[derive(Serialize)]
struct JsonHeld<'a> {
    pid: Pid,
    tid: Pid,
    comm: &'a Bytes,
    syscall: Option<&'static str>,
    mapping: Option<&'a Bytes>,
}

#[derive(Serialize)]
struct JsonLast {
    summary: JsonSummary,
}

#[derive(Serialize)]
struct JsonSummary {
    instances: usize,
    entries: usize,
    stale: usize,
    unsettled: usize,
    ready: usize,
    complete: bool,
    processes: usize,
    not_inspected: Vec<Pid>,
    hidden: bool,
    errors: Vec<String>,
    status: u8,
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

impl<'a> From<&'a Held> for JsonHeld<'a> {
    fn from(held: &'a Held) -> JsonHeld<'a> {
        let by = |table: &'a Table, tid| JsonHeld {
            pid: table.pid,
            tid,
            comm: &table.comm,
            syscall: None,
            mapping: None,
        };
        match held {
            Held::Syscall(table, tid, name) => JsonHeld {
                syscall: Some(name),
                ..by(table, *tid)
            },
            Held::Mapping(table, name) => JsonHeld {
                mapping: Some(name),
                ..by(table, table.tid)
            },
        }
    }
}

impl<'a> From<&'a Line> for JsonEntry<'a> {
    fn from(line: &'a Line) -> JsonEntry<'a> {
        let (row, entry) = (&line.row, &line.row.entry);
        JsonEntry {
            tfd: entry.tfd,
            toff: entry.toff,
            events: events::names(entry.events),
            ready: match line.ready {
                Ready::Events(events) => Some(events::names(events)),
                Ready::Unknown => None,
            },
            looks: line.looks,
            data: format!("{:#x}", entry.data),
            data_is: match line.data {
                Data::Fd => Some("fd"),
                Data::Pointer => Some("pointer"),
                Data::Other => None,
            },
            state: row.state.name(),
            stale: line.is_stale(),
            file: JsonTarget {
                file: (&line.file).into(),
                inode: entry.inode,
                device: device_numbers(entry.device),
            },
            reused: line.reused.as_ref().map(|(place, file)| JsonReused {
                place: place.into(),
                file: file.into(),
            }),
            places: places(&row.places),
            held_by: line.held.iter().map(JsonHeld::from).collect(),
        }
    }
}

/// Prints an epoll file.
pub fn print(epoll: &Epoll, lines: &[&Line], out: &mut impl Write) -> io::Result<()> {
    let mut advice = advice::causes(lines, epoll);
    let repair = advice::repair(lines, epoll);
    advice.extend(repair.map(|(heading, command)| format!("{heading} {command}")));
    let object = JsonEpoll {
        holders: places(&epoll.holders),
        entries: lines.iter().map(|line| JsonEntry::from(*line)).collect(),
        advice,
    };
    serde_json::to_writer(&mut *out, &object)?;
    writeln!(out)
}

/// Prints the last object.
pub fn finish(summary: &Summary, status: u8, out: &mut impl Write) -> io::Result<()> {
    let searched = &summary.searched;
    let last = JsonLast {
        summary: JsonSummary {
            instances: summary.instances,
            entries: summary.entries,
            stale: summary.stale,
            unsettled: summary.unsettled,
            ready: summary.ready,
            complete: summary.is_complete(),
            processes: searched.processes,
            not_inspected: searched
                .not_inspected
                .iter()
                .map(|table| table.pid)
                .collect(),
            hidden: searched.hidden,
            errors: searched.errors.iter().map(ToString::to_string).collect(),
            status,
        },
    };
    serde_json::to_writer(&mut *out, &last)?;
    writeln!(out)
}
