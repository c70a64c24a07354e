// SPDX-License-Identifier: GPL-2.0

//! Which files are the same: by inode where each file has its own, else by kcmp(2).

use crate::control::Control;
use crate::error::Error;
use crate::fdinfo::{self, Entry};
use crate::kcmp::{self, ask};
use crate::listing::Listing;
use crate::name;
use crate::order::{self, Answer};
use crate::process::Place;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixStream;

/// Files with different keys are different.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Key {
    /// The inode of a socket. A socket has one file.
    Socket(u64),
    /// The inode of an anonymous file that shares it with no other, such as an io_uring instance.
    Single(u64),
    /// The inode of a pipe, which has a file for each end.
    Pipe(u64),
    /// Any other inode. Most anonymous files, such as eventfds, share one.
    Inode(u64),
    /// A file whose inode cannot be determined without accessing its file system, which may hang.
    Unknown,
}

impl Key {
    /// The key that the link of a socket or a pipe has.
    pub fn of_link(link: &str) -> Option<Key> {
        let inode = |prefix| link.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok();
        inode("socket:[")
            .map(Key::Socket)
            .or_else(|| inode("pipe:[").map(Key::Pipe))
    }

    pub fn is_of_link(self) -> bool {
        matches!(self, Key::Socket(_) | Key::Pipe(_))
    }

    /// Whether files with this key are the same.
    pub fn is_unique(self) -> bool {
        matches!(self, Key::Socket(_) | Key::Single(_))
    }

    /// The keys that a file may have if this is the key of an entry.
    pub fn alternatives(self) -> impl Iterator<Item = Key> {
        let unknown = matches!(self, Key::Inode(_)).then_some(Key::Unknown);
        [self].into_iter().chain(unknown)
    }

    pub fn may_be(self, file: Key) -> bool {
        self.alternatives().any(|key| key == file)
    }
}

/// The devices of sockets and pipes, if the kernel has these, device and inode of anonymous files,
/// and whether eventfds share these.
#[derive(Clone, Copy)]
pub struct Kinds {
    sockets: Option<u32>,
    pipes: Option<u32>,
    anonymous: (u32, u64),
    is_eventfd_shared: bool,
}

/// The device in the internal encoding of the kernel, as in fdinfo, and the inode.
fn inode(metadata: &Metadata) -> (u32, u64) {
    let device = metadata.st_dev();
    let device = libc::major(device) << 20 | libc::minor(device);
    (device, metadata.st_ino())
}

impl Kinds {
    pub fn probe() -> io::Result<Kinds> {
        let look = |fd: i32| Ok(inode(&fs::metadata(format!("/proc/self/fd/{fd}"))?));
        let socket = UnixStream::pair().and_then(|(ours, _)| look(ours.as_raw_fd()));
        let pipe = kcmp::pipe().and_then(|pipe| look(pipe[0].as_raw_fd()));
        let anonymous = look(kcmp::epoll_create()?.as_raw_fd())?;
        // Most kernels have eventfds.
        let eventfd = kcmp::eventfd().and_then(|eventfd| look(eventfd.as_raw_fd()));
        Ok(Kinds {
            sockets: socket.ok().map(|(device, _)| device),
            pipes: pipe.ok().map(|(device, _)| device),
            anonymous,
            is_eventfd_shared: eventfd.is_ok_and(|inode| inode == anonymous),
        })
    }

    pub fn of_entry(&self, entry: &Entry) -> Key {
        let (device, inode) = (entry.device, entry.inode);
        if Some(device) == self.sockets {
            Key::Socket(inode)
        } else if Some(device) == self.pipes {
            Key::Pipe(inode)
        } else {
            self.of_inode(device, inode)
        }
    }

    /// The key of the file at a place, with its link.
    pub fn of_place(&self, place: &Place, link: &str) -> Key {
        if let Some(key) = Key::of_link(link) {
            return key;
        }
        // A process may have thousands of them.
        if self.is_eventfd_shared && link == "anon_inode:[eventfd]" {
            return Key::Inode(self.anonymous.1);
        }
        if link.starts_with("anon_inode:") {
            // Not from fdinfo, which is long for a large epoll file.
            return match fs::metadata(place.path("fd")) {
                Ok(metadata) => {
                    let (device, inode) = inode(&metadata);
                    self.of_inode(device, inode)
                }
                Err(_) => Key::Unknown,
            };
        }
        // Since Linux 5.14.
        match fdinfo::value(place, "ino:").and_then(|inode| inode.parse().ok()) {
            Some(inode) => Key::Inode(inode),
            None => Key::Unknown,
        }
    }

    fn of_inode(&self, device: u32, inode: u64) -> Key {
        if device == self.anonymous.0 && inode != self.anonymous.1 {
            Key::Single(inode)
        } else {
            Key::Inode(inode)
        }
    }

    /// The name of a target file that was not found.
    pub fn name_of_target(&self, entry: &Entry) -> String {
        match self.of_entry(entry) {
            Key::Socket(inode) => format!("socket:[{inode}]"),
            Key::Pipe(inode) => format!("pipe:[{inode}]"),
            _ if entry.device == self.anonymous.0 => "anon_inode".to_string(),
            _ => format!(
                "inode {} of device {}",
                entry.inode,
                name::device_numbers(entry.device)
            ),
        }
    }
}

/// Files by key.
pub struct Index<'a> {
    kinds: Kinds,
    groups: HashMap<Key, Group>,
    /// The files other than sockets and pipes, until their inodes are read.
    rest: Vec<(Place, &'a str)>,
}

#[derive(Default)]
struct Group {
    places: Vec<Place>,
    /// In the order of kcmp(2), if sorting saves calls.
    sorted: Option<Vec<Vec<Place>>>,
}

impl Group {
    /// Sorts the files if this saves time in a search for the target files of `lost` entries: on
    /// many kernels, a comparison with an entry takes longer the more `entries` there are.
    fn sort(&mut self, lost: usize, entries: usize, control: &mut Control) -> Result<(), Error> {
        let files = self.places.len();
        let depth = order::depth(files);
        let call = 1 + entries / 64;
        if self.sorted.is_none() && files * depth + lost * depth * call < lost * files * call {
            let sorted = order::sort(self.places.iter().cloned(), |a, b| {
                if control.step() {
                    compare(a, b)
                } else {
                    // The order does not matter any more.
                    Ok(Answer::Less)
                }
            })?;
            self.sorted = (!control.is_over()).then_some(sorted);
        }
        Ok(())
    }
}

impl<'a> Index<'a> {
    pub fn new(listing: &'a Listing, kinds: Kinds) -> Index<'a> {
        let mut groups: HashMap<_, Group> = HashMap::new();
        let mut rest = Vec::new();
        for (place, link) in listing.tables().flat_map(|listed| listed.places()) {
            match Key::of_link(link) {
                Some(key) => groups.entry(key).or_default().places.push(place),
                None => rest.push((place, link)),
            }
        }
        Index {
            kinds,
            groups,
            rest,
        }
    }

    /// The places where the target file of an entry with this key seems to be open. `compare`
    /// compares it with a file. It is one of `lost` entries of that key that are searched for, of
    /// `entries` in all.
    pub fn search(
        &mut self,
        key: Key,
        (lost, entries): (usize, usize),
        control: &mut Control,
        mut compare: impl FnMut(&Place) -> Result<Answer, Error>,
    ) -> Result<Vec<Place>, Error> {
        if !key.is_of_link() {
            for (place, link) in self.rest.drain(..) {
                let key = self.kinds.of_place(&place, link);
                self.groups.entry(key).or_default().places.push(place);
            }
        }
        let mut found = Vec::new();
        for key in key.alternatives() {
            let Some(group) = self.groups.get_mut(&key) else {
                continue;
            };
            if key.is_unique() {
                found.extend(group.places.iter().cloned());
                continue;
            }
            group.sort(lost, entries, control)?;
            if control.is_over() {
                break;
            }
            if let Some(sorted) = &mut group.sorted {
                let equal = order::search(sorted, &mut compare)?;
                found.extend(equal.into_iter().flatten().cloned());
            } else {
                for place in &group.places {
                    if compare(place)? == Answer::Equal {
                        found.push(place.clone());
                    }
                }
            }
        }
        Ok(found)
    }

    /// Whether the files with this key are still in order, so that [`Index::search`] cannot have
    /// missed one. Files that were closed and opened meanwhile are usually out of order.
    pub fn is_order_kept(&self, key: Key) -> Result<bool, Error> {
        for key in key.alternatives() {
            let sorted = self
                .groups
                .get(&key)
                .and_then(|group| group.sorted.as_ref());
            for pair in sorted.map_or(&[][..], Vec::as_slice).windows(2) {
                // A file that is gone does not disturb the order of the others.
                if matches!(
                    compare(&pair[0][0], &pair[1][0])?,
                    Answer::Equal | Answer::Greater
                ) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// Whether each file is less than the next one.
pub fn is_sorted(files: &[Vec<Place>]) -> Result<bool, Error> {
    for pair in files.windows(2) {
        if compare(&pair[0][0], &pair[1][0])? != Answer::Less {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compares two files.
pub fn compare(a: &Place, b: &Place) -> Result<Answer, Error> {
    compare_by(a, b, || kcmp::compare_files(a, b))
}

/// Compares the file at `a` with the target file of an entry of the epoll file at `b`.
pub fn compare_entry(a: &Place, b: &Place, entry: &Entry) -> Result<Answer, Error> {
    compare_by(a, b, || kcmp::compare_entry(a, b, entry.key()))
}

fn compare_by(
    a: &Place,
    b: &Place,
    kcmp: impl Fn() -> io::Result<Ordering>,
) -> Result<Answer, Error> {
    // kcmp(2) does not tell which of the files is gone, and it may be back.
    for _ in 0..3 {
        match kcmp() {
            Err(e) if kcmp::is_no_entry(&e) => return Ok(Answer::RightGone),
            answer => {
                if let Some(ordering) = ask(answer)? {
                    return Ok(ordering.into());
                }
            }
        }
        if ask(kcmp::compare_files(a, a))?.is_none() {
            return Ok(Answer::LeftGone);
        }
        if ask(kcmp::compare_files(b, b))?.is_none() {
            return Ok(Answer::RightGone);
        }
    }
    // They keep changing: any result will do.
    Ok(Answer::Less)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::scene;
    use crate::process::Table;
    use std::time::Duration;

    fn entry(device: u32, inode: u64) -> Entry {
        Entry {
            tfd: 0,
            toff: 0,
            events: 0,
            data: 0,
            inode,
            device,
        }
    }

    #[test]
    fn keys_of_links() {
        assert_eq!(Key::of_link("socket:[12]"), Some(Key::Socket(12)));
        assert_eq!(Key::of_link("pipe:[12]"), Some(Key::Pipe(12)));
        assert_eq!(Key::of_link("/tmp/socket:[12]"), None);
        assert_eq!(Key::of_link("socket:[]"), None);
    }

    #[test]
    fn keys_of_entries() {
        let kinds = Kinds {
            sockets: Some(8),
            pipes: None,
            anonymous: (15, 17),
            is_eventfd_shared: true,
        };
        let key = |device, inode| kinds.of_entry(&entry(device, inode));
        assert_eq!(key(8, 7), Key::Socket(7));
        assert_eq!(key(15, 17), Key::Inode(17));
        assert_eq!(key(15, 7), Key::Single(7));
        // A pidfd shares its inode with other pidfds of the process.
        assert_eq!(key(16, 7), Key::Inode(7));
        assert!(Key::Inode(7).may_be(Key::Unknown));
        assert!(!Key::Socket(7).may_be(Key::Unknown));
    }

    #[test]
    fn keys_of_places() {
        let kinds = Kinds::probe().unwrap();
        let key = |fd| {
            let place = Place::new(&Table::own(), fd);
            kinds.of_place(&place, &place.link().unwrap())
        };
        let (a, b) = (scene::eventfd().unwrap(), scene::epoll_create().unwrap());
        assert_eq!(key(a), Key::Inode(kinds.anonymous.1));
        assert_eq!(key(a), key(b));
        let pipe = kcmp::pipe().unwrap();
        assert_eq!(key(pipe[0].as_raw_fd()), key(pipe[1].as_raw_fd()));
        let [a, b] = scene::socketpair(libc::SOCK_STREAM).unwrap();
        assert_ne!(key(a), key(b));
    }

    /// Files of this process.
    fn group(count: usize) -> Group {
        let table = Table::own();
        let place = |_| Place::new(&table, scene::eventfd().unwrap());
        Group {
            places: (0..count).map(place).collect(),
            sorted: None,
        }
    }

    #[test]
    fn sorts_if_that_saves_time_and_notices_changes() {
        let mut on = Control::new(None);
        let mut over = Control::new(Some(Duration::ZERO));
        let listing = Listing::new(0);
        let kinds = Kinds::probe().unwrap();
        let key = Key::Inode(1);
        let mut index = Index::new(&listing, kinds);
        let group = group(40);
        let places = group.places.clone();
        index.groups.insert(key, group);
        let mut found = |counts, control: &mut Control| {
            let found = index.search(key, counts, control, |place| compare(place, &places[7]));
            let fds: Vec<_> = found.unwrap().iter().map(|place| place.fd).collect();
            (fds, index.groups[&key].sorted.is_some())
        };
        assert_eq!(found((3, 3), &mut on), (vec![places[7].fd], false));
        assert_eq!(found((40, 40), &mut over), (vec![], false));
        assert_eq!(found((40, 40), &mut on), (vec![places[7].fd], true));
        assert!(index.is_order_kept(key).unwrap());

        let sorted = index.groups[&key].sorted.as_ref().unwrap();
        let (a, b) = (sorted[3][0].fd, sorted[9][0].fd);
        let free = scene::eventfd().unwrap();
        scene::dup2(a, free).unwrap();
        scene::dup2(b, a).unwrap();
        scene::dup2(free, b).unwrap();
        assert!(!index.is_order_kept(key).unwrap());
    }
}
