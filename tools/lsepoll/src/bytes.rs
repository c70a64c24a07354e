// SPDX-License-Identifier: GPL-2.0

//! Names that processes choose: any bytes.

use serde::{Serialize, Serializer};
use std::ffi::OsString;
use std::fmt::{self, Write};
use std::ops::Deref;
use std::os::unix::ffi::OsStringExt;

/// A name. As text, it is escaped for a terminal. In JSON, it is a string if it is UTF-8, and an
/// array of its bytes otherwise.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Bytes(Vec<u8>);

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes(bytes)
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Bytes {
        Bytes(text.into_bytes())
    }
}

impl From<OsString> for Bytes {
    fn from(text: OsString) -> Bytes {
        Bytes(text.into_vec())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.utf8_chunks() {
            for c in chunk.valid().chars() {
                if confuses(c) {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    f.write_char(c)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Whether a character could confuse a terminal or its user: control characters, characters that
/// change the direction of text or break lines, and backslashes, to tell them from escapes.
fn confuses(c: char) -> bool {
    c.is_control()
        || matches!(c, '\\' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(self.iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_confuse_a_terminal() {
        let text = |bytes: &[u8]| Bytes::from(bytes.to_vec()).to_string();
        assert_eq!(text("/tmp/ä b".as_bytes()), "/tmp/ä b");
        assert_eq!(text(b"a\x1b[31m\nb\xff"), "a\\u{1b}[31m\\nb\\xff");
        assert_eq!(text("gpj.\u{202e}a\\n".as_bytes()), "gpj.\\u{202e}a\\\\n");
        assert_eq!(text("a\u{2028}\u{9b}".as_bytes()), "a\\u{2028}\\u{9b}");
    }

    #[test]
    fn json_keeps_bytes() {
        let json = |bytes: &[u8]| serde_json::to_string(&Bytes::from(bytes.to_vec())).unwrap();
        assert_eq!(json(b"a\n\x1b"), r#""a\n\u001b""#);
        assert_eq!(json(b"a\xff"), "[97,255]");
    }
}
