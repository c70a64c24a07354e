// SPDX-License-Identifier: GPL-2.0

//! What the whole system has in use.

use std::fs;
use std::io;

/// Reads the first number of a file.
fn first_number(path: &str) -> io::Result<u64> {
    let named = |e| io::Error::other(format!("{path}: {e}"));
    let text = fs::read_to_string(path).map_err(|e| io::Error::new(e.kind(), named(e)))?;
    let number = text.split_whitespace().next().map(str::parse);
    number
        .and_then(Result::ok)
        .ok_or_else(|| io::Error::other(format!("{path}: {text}")))
}

/// How many files are open, as the kernel sums them up for all CPUs.
pub fn count_open_files() -> io::Result<u64> {
    first_number("/proc/sys/fs/file-nr")
}

/// How many objects of a slab cache are in use.
///
/// The cache is shrunk first, since what is free but kept by a CPU, or by KASAN, would count.
pub fn count_objects(cache: &str) -> io::Result<u64> {
    fs::write(format!("/sys/kernel/slab/{cache}/shrink"), "1")?;
    first_number(&format!("/sys/kernel/slab/{cache}/objects"))
}

/// How many other names a slab cache has: if any, objects of other kinds are in it.
pub fn count_aliases(cache: &str) -> io::Result<u64> {
    first_number(&format!("/sys/kernel/slab/{cache}/aliases"))
}
