// SPDX-License-Identifier: GPL-2.0

//! What the whole system has in use.

use std::fs;
use std::io;

/// Reads the first number of a file.
pub fn first_number(path: &str) -> io::Result<u64> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{path}: {e}"));
    let text = fs::read_to_string(path).map_err(named)?;
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
///
/// Fails with [`io::ErrorKind::NotFound`] if the kernel does not tell, or if objects of other kinds
/// are in the same cache.
pub fn count_objects(cache: &str) -> io::Result<u64> {
    let attribute = |name| format!("/sys/kernel/slab/{cache}/{name}");
    if first_number(&attribute("aliases"))? > 0 {
        let why = format!("the slab cache {cache} has other users");
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    fs::write(attribute("shrink"), "1")?;
    first_number(&attribute("objects"))
}
