// SPDX-License-Identifier: GPL-2.0

//! Names of files.

use crate::fdinfo;
use crate::process::Place;

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
}
