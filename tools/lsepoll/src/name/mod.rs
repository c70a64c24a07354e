// SPDX-License-Identifier: GPL-2.0

//! Names of files.

mod details;

use crate::bytes::Bytes;
use crate::fdinfo;
use crate::process::{self, Pid, Place};
use crate::sockets::{Socket, Sockets};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

/// What is known about an open file.
#[derive(Clone, Debug)]
pub struct File {
    /// `socket`, `pipe`, `memfd`, `device`, `path`, or the name of an anonymous inode.
    pub kind: String,
    /// The target of the link in /proc.
    pub link: Bytes,
    /// The path of a file, or the path that a unix socket is bound to.
    pub path: Option<Bytes>,
    /// Whether the path was removed.
    pub deleted: bool,
    pub socket: Option<Socket>,
    /// The processes that have the other end of a unix socket open.
    pub peers: Vec<Peer>,
    /// What fdinfo tells.
    pub details: Vec<(&'static str, String)>,
}

/// A process at the other end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    pub pid: Pid,
    pub comm: Bytes,
}

impl File {
    /// A file of which nothing else is known.
    pub fn new(link: Bytes) -> File {
        File {
            kind: kind(&link),
            link,
            path: None,
            deleted: false,
            socket: None,
            peers: Vec::new(),
            details: Vec::new(),
        }
    }

    /// What [`of`] returns for this file.
    pub fn identity(&self) -> String {
        let link = String::from_utf8_lossy(&self.link);
        let name = link.strip_prefix("anon_inode:").unwrap_or(&link);
        let number = (self.details.iter()).find(|(key, _)| ["id", "pid"].contains(key));
        match (number, name.strip_suffix(']')) {
            (Some((_, number)), Some(name)) => format!("{name}:{number}]"),
            _ => name.to_string(),
        }
    }

    /// A name of bytes that processes may have chosen. [`Bytes`] escapes it for a terminal.
    pub fn text(&self) -> Bytes {
        let mut text = match (&self.socket, &self.path) {
            (Some(socket), _) => socket.text().to_vec(),
            (None, Some(path)) => path.to_vec(),
            (None, None) => self.identity().into_bytes(),
        };
        if self.deleted {
            text.extend(DELETED);
        }
        match &self.peers[..] {
            [] => {}
            [peer, others @ ..] => {
                text.extend(format!(" <-> pid {} (", peer.pid).bytes());
                text.extend(&peer.comm[..]);
                text.push(b')');
                if !others.is_empty() {
                    text.extend(format!(" and {} more", others.len()).bytes());
                }
            }
        }
        for (key, value) in &self.details {
            // The first two are part of the name.
            let is_usual = matches!(
                (*key, &**value),
                ("id" | "pid", _) | ("count", "0") | ("remaining" | "interval", "0s")
            );
            if !is_usual {
                text.extend(format!(" {key}={value}").bytes());
            }
        }
        text.into()
    }
}

/// The suffix of the link of a file whose path was removed.
const DELETED: &[u8] = b" (deleted)";

/// Names files.
pub struct Names {
    pub sockets: Sockets,
    /// The processes that have a socket open, by its inode.
    holders: HashMap<u64, Vec<Rc<process::Table>>>,
}

impl Names {
    /// `files` are all open files, to find the peers of sockets.
    pub fn new<'a>(files: impl Iterator<Item = (Place, &'a str)>) -> Names {
        let mut holders = HashMap::<_, Vec<Rc<process::Table>>>::new();
        for (place, link) in files {
            if let Some(inode) = socket_inode(link) {
                let tables = holders.entry(inode).or_default();
                if !tables.iter().any(|table| table.pid == place.table.pid) {
                    tables.push(place.table.clone());
                }
            }
        }
        Names {
            sockets: Sockets::default(),
            holders,
        }
    }

    /// Describes an open file; `None` if it is not open any more.
    pub fn file(&mut self, place: &Place) -> Option<File> {
        let link = read_link(place)?;
        let mut file = File::new(link);
        if let Some(inode) = std::str::from_utf8(&file.link).ok().and_then(socket_inode) {
            file.socket = self.sockets.find(place, inode);
            self.complete(&mut file);
        } else if file.link.starts_with(b"/") {
            let is_deleted = file.link.ends_with(DELETED) && !is_path(place, &file.link);
            let end = file.link.len() - if is_deleted { DELETED.len() } else { 0 };
            file.path = Some(file.link[..end].to_vec().into());
            file.deleted = is_deleted;
        } else {
            file.details = details::of(place, &file.kind);
        }
        // Otherwise, another file may have been described.
        (read_link(place)? == file.link).then_some(file)
    }

    /// Describes a target file that is open nowhere, by its name and device. `pid` is in the network
    /// namespace where a socket may be.
    pub fn target(&mut self, name: &str, device: u32, pid: Pid) -> File {
        let mut file = File::new(name.to_string().into());
        if let Some(inode) = socket_inode(name) {
            file.socket = self.sockets.listed(pid, inode).cloned();
            self.complete(&mut file);
        } else if let Some((inode, _)) = name.split_once(" of device ") {
            file.kind = "inode".to_string();
            if let Some(mount) = mount_point(device) {
                file.link = [inode.as_bytes(), b" on ", &mount].concat().into();
            }
        }
        file
    }

    /// Adds the path and the peers of a socket.
    fn complete(&self, file: &mut File) {
        if let Some(socket) = &file.socket {
            file.path = socket.path.clone();
            file.peers = socket.peer.map_or_else(Vec::new, |peer| self.peers(peer));
        }
    }

    fn peers(&self, inode: u64) -> Vec<Peer> {
        let tables = self.holders.get(&inode).map_or(&[][..], Vec::as_slice);
        let peer = |table: &Rc<process::Table>| Peer {
            pid: table.pid,
            comm: table.comm.clone(),
        };
        tables.iter().map(peer).collect()
    }
}

fn read_link(place: &Place) -> Option<Bytes> {
    let link = fs::read_link(place.path("fd")).ok()?;
    Some(link.into_os_string().into())
}

/// Only names of the kernel do not begin with a slash.
fn kind(link: &[u8]) -> String {
    let name = match link {
        _ if link.starts_with(b"/dev/") => "device".into(),
        _ if link.starts_with(b"/memfd:") => "memfd".into(),
        _ if link.starts_with(b"/") => "path".into(),
        _ => String::from_utf8_lossy(link.strip_prefix(b"anon_inode:").unwrap_or(link)),
    };
    // Such as `pipe:[7]`, `[eventfd]`, and `pidfd:[7]`.
    let name = name.split_once(":[").map_or(&*name, |(kind, _)| kind);
    name.trim_start_matches('[')
        .trim_end_matches(']')
        .to_string()
}

/// Where the file system on a device is mounted.
fn mount_point(device: u32) -> Option<Bytes> {
    find_mount(&fs::read("/proc/self/mountinfo").ok()?, device)
}

fn find_mount(mounts: &[u8], device: u32) -> Option<Bytes> {
    let device = device_numbers(device);
    // The kernel escapes white space in paths.
    let mount = mounts.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        (fields.next()? == device.as_bytes()).then(|| fields.nth(1))?
    })?;
    let mut path = Vec::new();
    let mut rest = mount;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (tail.get(..3).filter(|_| byte == b'\\'))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    Some(path.into())
}

/// Whether the whole link is the path of the file, which may end like that of a removed file.
fn is_path(place: &Place, link: &[u8]) -> bool {
    let identity = |path: &OsStr| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.st_dev(), metadata.st_ino()))
    };
    let file = identity(place.path("fd").as_ref());
    file.is_some() && file == identity(OsStr::from_bytes(link))
}

/// Files with an id in fdinfo: the target of their link, and the key of the id.
const NUMBERED: [(&str, &str); 2] = [
    ("anon_inode:[eventfd]", "eventfd-id:"),
    ("anon_inode:[pidfd]", "Pid:"),
];

/// The name of an open file; `None` if it is not open any more.
pub fn of(place: &Place) -> Option<String> {
    let link = place.link()?;
    let mut name = link
        .strip_prefix("anon_inode:")
        .unwrap_or(&link)
        .to_string();
    let numbered = NUMBERED.iter().find(|(of, _)| *of == link);
    if let Some(number) = numbered.and_then(|(_, key)| fdinfo::value(place, key)) {
        name.insert_str(name.len() - 1, &format!(":{number}"));
    }
    Some(name)
}

/// The inode in the name of a socket.
pub fn socket_inode(name: &str) -> Option<u64> {
    in_brackets(name, "socket:[")
}

fn in_brackets(name: &str, prefix: &str) -> Option<u64> {
    name.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok()
}

/// Major and minor of a device in the internal encoding of the kernel.
pub fn device_numbers(device: u32) -> String {
    format!("{}:{}", device >> 20, device & 0xf_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points() {
        let mounts = b"21 1 8:1 / / rw - ext4 /dev/root rw\n\
            22 21 0:5 / /a\\0128:2\\134\xff rw - tmpfs x rw\n";
        let find = |device| find_mount(mounts, device).map(|path| path.to_vec());
        assert_eq!(find(8 << 20 | 1), Some(b"/".to_vec()));
        assert_eq!(find(5), Some(b"/a\n8:2\\\xff".to_vec()));
        assert_eq!(find(8 << 20 | 2), None);
    }

    #[test]
    fn inodes_in_names() {
        assert_eq!(socket_inode("socket:[12]"), Some(12));
        assert_eq!(socket_inode("/tmp/socket:[12]"), None);
        assert_eq!(socket_inode("socket:[]"), None);
        assert_eq!(device_numbers(8 << 20 | 1), "8:1");
    }
}
