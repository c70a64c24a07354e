// SPDX-License-Identifier: GPL-2.0

//! The entries of an interest list, from /proc/PID/fdinfo/EFD.

use crate::error::Error;
use crate::process::{Fd, Place};
use std::collections::HashMap;
use std::fs;

/// The target of the link /proc/PID/fd/EFD.
pub const EPOLL_LINK: &str = "anon_inode:[eventpoll]";

/// An entry of an interest list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    pub tfd: Fd,
    /// The number of entries with the same tfd that precede this one.
    pub toff: u32,
    pub events: u32,
    pub data: u64,
    /// The inode of the target file.
    pub inode: u64,
    /// Its device, in the internal encoding of the kernel.
    pub device: u32,
}

impl Entry {
    pub fn key(&self) -> (Fd, u32) {
        (self.tfd, self.toff)
    }
}

/// The word after a key.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_once(key)?.1.split_whitespace().next()
}

/// Parses a line like this one:
///
/// ```text
/// tfd:        5 events:       19 data:                5  pos:0 ino:b sdev:f
/// ```
fn parse_line(line: &str) -> Option<Entry> {
    Some(Entry {
        tfd: field(line, "tfd:")?.parse().ok().filter(|tfd| *tfd >= 0)?,
        toff: 0,
        events: u32::from_str_radix(field(line, " events:")?, 16).ok()?,
        data: u64::from_str_radix(field(line, " data:")?, 16).ok()?,
        inode: u64::from_str_radix(field(line, " ino:")?, 16).ok()?,
        device: u32::from_str_radix(field(line, " sdev:")?, 16).ok()?,
    })
}

/// The entries that fdinfo lists, sorted by tfd and toff.
pub fn parse(text: &str) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let mut next_toff = HashMap::new();
    for line in text.lines().filter(|line| line.starts_with("tfd:")) {
        let mut entry = parse_line(line).ok_or_else(|| Error::Fdinfo(line.to_string()))?;
        let toff = next_toff.entry(entry.tfd).or_insert(0);
        entry.toff = *toff;
        *toff += 1;
        entries.push(entry);
    }
    entries.sort_by_key(Entry::key);
    Ok(entries)
}

/// The entries of an epoll file; `None` if the fd does not refer to one any more.
pub fn read(epoll: &Place) -> Result<Option<Vec<Entry>>, Error> {
    let Ok(text) = fs::read(epoll.path("fdinfo")) else {
        return Ok(None);
    };
    if epoll.link().as_deref() != Some(EPOLL_LINK) {
        return Ok(None);
    }
    parse(&String::from_utf8_lossy(&text)).map(Some)
}

/// The value of a key in fdinfo of a file.
pub fn value(place: &Place, key: &str) -> Option<String> {
    let text = fs::read(place.path("fdinfo")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_in_any_order() {
        let text = "pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t2062\n\
            tfd:        9 events:       19 data:                1  pos:0 ino:2d1f sdev:8\n\
            tfd:        5 events: 80000019 data: ffffffffffffffff  pos:0 ino:80e sdev:e\n\
            tfd:        9 events:       19 data:                2  pos:0 ino:2d20 sdev:8\n";
        let entries = parse(text).unwrap();
        let keys: Vec<_> = entries.iter().map(|e| (e.key(), e.data)).collect();
        assert_eq!(keys, [((5, 0), u64::MAX), ((9, 0), 1), ((9, 1), 2)]);
        assert_eq!((entries[0].events, entries[0].inode), (0x8000_0019, 0x80e));
        assert_eq!(entries[1].device, 8);
    }

    #[test]
    fn lines_that_are_not_understood() {
        for line in [
            "tfd: 5",
            "tfd: -1 events: 19 data: 5  pos:0 ino:b sdev:f",
            "tfd: 5 events: 19 data: 5  pos:0 ino:b sdev:g",
        ] {
            assert!(matches!(parse(line), Err(Error::Fdinfo(l)) if l == line));
        }
    }
}
