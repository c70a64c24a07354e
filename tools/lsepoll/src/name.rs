// SPDX-License-Identifier: GPL-2.0

//! Names of files.

use crate::fdinfo::{self, Entry};
use crate::process::Place;
use crate::scene;
use std::fs;
use std::io;
use std::os::linux::fs::MetadataExt;

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

/// Escapes what could confuse a terminal or its user: control characters, characters that change
/// the direction of text, and backslashes, to tell them from escapes.
pub fn printable(text: &str) -> String {
    let is_turning = |c| matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || c == '\\' || is_turning(c) {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// The inode of a socket or a pipe.
pub fn inode_in_link(link: &str) -> Option<u64> {
    socket_inode(link).or_else(|| in_brackets(link, "pipe:["))
}

/// The inode of another file, if it can be determined without accessing its file system, which may
/// hang.
pub fn inode(place: &Place, link: &str) -> Option<u64> {
    if link.starts_with("anon_inode:") {
        // Not from fdinfo, which is long for a large epoll file.
        Some(fs::metadata(place.path("fd")).ok()?.st_ino())
    } else {
        // Since Linux 5.14.
        fdinfo::value(place, "ino:")?.parse().ok()
    }
}

/// The devices of sockets and pipes, if the kernel has these, and device and inode of anonymous
/// inodes.
#[derive(Clone, Copy)]
pub struct Kinds {
    sockets: Option<u32>,
    pipes: Option<u32>,
    anonymous: (u32, u64),
}

impl Kinds {
    pub fn probe() -> io::Result<Kinds> {
        let look = |fds: &[i32]| {
            let metadata = fs::metadata(format!("/proc/self/fd/{}", fds[0]));
            fds.iter().try_for_each(|fd| scene::close(*fd))?;
            let metadata = metadata?;
            let device = metadata.st_dev();
            // In the internal encoding of the kernel, as in fdinfo.
            let device = libc::major(device) << 20 | libc::minor(device);
            io::Result::Ok((device, metadata.st_ino()))
        };
        let sockets = scene::socketpair(libc::SOCK_STREAM).and_then(|fds| look(&fds));
        let pipes = scene::pipe().and_then(|fds| look(&fds));
        Ok(Kinds {
            sockets: sockets.ok().map(|(device, _)| device),
            pipes: pipes.ok().map(|(device, _)| device),
            anonymous: look(&[scene::epoll_create()?])?,
        })
    }

    /// Whether the target file is a socket.
    pub fn is_socket(&self, entry: &Entry) -> bool {
        self.sockets == Some(entry.device)
    }

    /// Whether [`inode_in_link`] knows the inode of the target file.
    pub fn is_inode_in_link(&self, entry: &Entry) -> bool {
        [self.sockets, self.pipes].contains(&Some(entry.device))
    }

    /// Whether a file with this link may be the target file.
    pub fn may_be_target(&self, link: &str, entry: &Entry) -> bool {
        if self.is_inode_in_link(entry) {
            inode_in_link(link) == Some(entry.inode)
        } else if (entry.device, entry.inode) == self.anonymous {
            link.starts_with("anon_inode:")
        } else {
            inode_in_link(link).is_none()
        }
    }

    /// The name of a target file that was not found.
    pub fn name_of_target(&self, entry: &Entry) -> String {
        let (device, inode) = (entry.device, entry.inode);
        if Some(device) == self.sockets {
            format!("socket:[{inode}]")
        } else if Some(device) == self.pipes {
            format!("pipe:[{inode}]")
        } else if (device, inode) == self.anonymous {
            "anon_inode".to_string()
        } else {
            format!("inode {inode} of device {}", device_numbers(device))
        }
    }
}

/// Major and minor of a device in the internal encoding of the kernel.
pub fn device_numbers(device: u32) -> String {
    format!("{}:{}", device >> 20, device & 0xf_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_confuse_a_terminal() {
        assert_eq!(printable("/tmp/ä b"), "/tmp/ä b");
        assert_eq!(printable("a\x1b[31m\nb"), "a\\u{1b}[31m\\nb");
        assert_eq!(printable("gpj.\u{202e}a\\n"), "gpj.\\u{202e}a\\\\n");
    }

    #[test]
    fn inodes_in_names() {
        assert_eq!(socket_inode("socket:[12]"), Some(12));
        assert_eq!(socket_inode("/tmp/socket:[12]"), None);
        assert_eq!(socket_inode("socket:[]"), None);
        assert_eq!(device_numbers(8 << 20 | 1), "8:1");
    }
    #[test]
    fn links_that_may_be_the_target() {
        let kinds = Kinds {
            sockets: Some(8),
            pipes: None,
            anonymous: (15, 17),
        };
        let entry = |device, inode| Entry {
            tfd: 0,
            toff: 0,
            events: 0,
            data: 0,
            inode,
            device,
        };
        let links = ["socket:[7]", "socket:[8]", "anon_inode:[eventfd]", "/a"];
        let may_be = |entry: Entry| links.map(|link| kinds.may_be_target(link, &entry));
        assert_eq!(may_be(entry(8, 7)), [true, false, false, false]);
        assert_eq!(may_be(entry(15, 17)), [false, false, true, false]);
        // A pidfd has an inode of its own.
        assert_eq!(may_be(entry(16, 7)), [false, false, true, true]);
    }
}
