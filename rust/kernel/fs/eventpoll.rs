// SPDX-License-Identifier: GPL-2.0

//! Epoll instances and their interest lists.
//!
//! An entry of an interest list is a file and the fd under which it was added. The fd may have been
//! closed or reused since: several entries can have the same fd, and only the entry identifies the
//! file.
//!
//! C source: [`fs/eventpoll.c`](srctree/fs/eventpoll.c), whose private structures are in
//! [`fs/eventpoll.h`](srctree/fs/eventpoll.h).
//!
//! # Examples
//!
//! ```
//! use kernel::fs::{
//!     eventpoll::EventPoll,
//!     AnyFile, //
//! };
//!
//! /// Returns whether an entry of `epoll_file` that was added as `tfd` has `file` as its target.
//! fn is_target(epoll_file: &AnyFile, tfd: i32, file: &AnyFile) -> Result<bool> {
//!     let mut list = EventPoll::from_file(epoll_file)?.lock();
//!     for toff in 0.. {
//!         let Some(target) = list.target(tfd, toff) else {
//!             break;
//!         };
//!         if target == file.id() {
//!             return Ok(true);
//!         }
//!     }
//!     Ok(false)
//! }
//! ```

use crate::{
    bindings,
    error::{
        code::*,
        Result, //
    },
    ffi::c_int,
    fs::file::{
        AnyFile,
        FileId, //
    },
    interop::rbtree::{
        crbtree_create,
        CRbTree, //
    },
    sync::{
        Mutex,
        MutexGuard, //
    },
    types::Opaque, //
};
use core::mem::offset_of;

/// The epoll instance behind an epoll file.
///
/// Wraps the kernel's `struct eventpoll`. See the [module documentation](self) for an example.
///
/// # Invariants
///
/// The `struct eventpoll` was set up by `ep_alloc()`.
#[repr(transparent)]
pub struct EventPoll(Opaque<bindings::eventpoll>);

impl EventPoll {
    /// Returns the epoll instance of `file`.
    ///
    /// Fails with [`EINVAL`] if `file` is not an epoll file.
    #[inline]
    pub fn from_file(file: &AnyFile) -> Result<&EventPoll> {
        // SAFETY: `file` is a valid `struct file`, since the shared reference guarantees a nonzero
        // refcount. The `f_op` of some files changes while they are open, but never from or to
        // that of epoll files.
        if !unsafe { bindings::is_file_epoll(file.as_ptr()) } {
            return Err(EINVAL);
        }

        // SAFETY: `file` is valid. The field `private_data` of an epoll file is set before the file
        // is visible to anybody else, and never changes.
        let ep = unsafe { (*file.as_ptr()).private_data };

        // INVARIANT: `private_data` of an epoll file is what `ep_alloc()` set up.
        //
        // SAFETY: The epoll file holds a reference to its `struct eventpoll` until it is released,
        // which `file` prevents for as long as the returned reference exists. `EventPoll` is
        // `#[repr(transparent)]`.
        Ok(unsafe { &*ep.cast::<EventPoll>() })
    }

    /// Locks the interest list: takes `ep->mtx`. May sleep.
    ///
    /// The order of two epoll instances is that of their nesting (see "Locking" in
    /// `fs/eventpoll.c`), which is not known here: do not lock a second one. Lockdep reports that
    /// as recursive locking.
    #[inline]
    pub fn lock(&self) -> InterestListGuard<'_> {
        // SAFETY: `self` is a valid `struct eventpoll`; only the address of the field is taken.
        let mtx = unsafe { &raw mut (*self.0.get()).mtx };

        // SAFETY: `ep_alloc()` has initialised the mutex, per type invariants, and it is valid for
        // as long as `self` is.
        let mutex = unsafe { Mutex::from_raw(mtx) };

        // INVARIANT: `_guard` is a guard of `ep->mtx`. `ep_alloc()` has cleared the cursor; under
        // `ep->mtx`, `ep_find_tfd()` or `InterestListGuard::target` sets it to an entry, and C code
        // resets it where it changes the tree.
        InterestListGuard {
            ep: self,
            _guard: mutex.lock(),
        }
    }
}

/// An entry of an interest list.
///
/// Wraps the kernel's `struct epitem`.
///
/// # Invariants
///
/// The entry is linked in the tree of an [`EventPoll`] whose `ep->mtx` is held.
#[repr(transparent)]
struct EpItem(Opaque<bindings::epitem>);

impl EpItem {
    /// Returns the fd under which the entry was added, `epi->ffd.fd`.
    #[inline]
    fn tfd(&self) -> c_int {
        // SAFETY: An entry is freed after it was unlinked. This one is linked, per type invariants.
        // `ffd` never changes.
        unsafe { (*self.0.get()).ffd.fd }
    }

    /// Returns the identity of the target file, `epi->ffd.file`.
    #[inline]
    fn target(&self) -> FileId<'_> {
        // SAFETY: As for `tfd()`.
        let file = unsafe { (*self.0.get()).ffd.file };

        // SAFETY: `eventpoll_release_file()` unlinks the entry, under `ep->mtx`, before the file
        // is freed. The entry is linked while `self` is borrowed, per type invariants.
        unsafe { FileId::from_ptr(file) }
    }
}

/// The interest list of an epoll instance, under `ep->mtx`, which is unlocked on drop. See the
/// [module documentation](self) for an example.
///
/// That the tree is sorted by fd, then by file address, as `ep_cmp_ffd()` compares, matters for
/// which entry is found, but not for safety.
///
/// # Invariants
///
/// - `_guard` is a guard of `ep->mtx`.
/// - `ep->cursor` is null or an entry that is linked in the tree.
#[must_use = "the interest list unlocks immediately when the guard is unused"]
pub struct InterestListGuard<'a> {
    ep: &'a EventPoll,
    _guard: MutexGuard<'a, ()>,
}

impl InterestListGuard<'_> {
    /// Returns the tree of entries.
    #[inline]
    fn tree(&self) -> &CRbTree<EpItem, { offset_of!(bindings::epitem, __bindgen_anon_1.rbn) }> {
        // SAFETY: `ep` is a valid `struct eventpoll`; only the address of the field is taken.
        let root = unsafe { &raw mut (*self.ep.0.get()).rbr };

        // INVARIANT: All items are linked in the tree of `ep`, whose mutex is held.
        //
        // SAFETY: `ep_alloc()` has initialised the tree. Its items are of type `struct epitem`,
        // linked by `rbn`, and `EpItem` is `#[repr(transparent)]` over it. C code changes the tree
        // in `ep_rbtree_insert()` and `ep_remove_epi()` only, both under `ep->mtx`, and frees an
        // entry after the latter has unlinked it. `ep->mtx` is held while `self` is borrowed, per
        // type invariants: the tree does not change, and its items are live.
        unsafe { crbtree_create!(root, EpItem, bindings::epitem, __bindgen_anon_1.rbn) }
    }

    /// Returns the entry that the last successful lookup found, and its toff, or [`None`] if the
    /// tree has changed since.
    #[inline]
    fn cursor(&self) -> Option<(&EpItem, u32)> {
        let ep = self.ep.0.get();
        // SAFETY: `ep` is valid, and both fields are protected by `ep->mtx`, which is held. `rcu`,
        // in the same union, is only used by `ep_free()`, after the last reference is gone.
        let last = unsafe { (*ep).__bindgen_anon_1.__bindgen_anon_1 };
        // INVARIANT: The cursor, if any, is linked in this tree, whose mutex is held.
        //
        // SAFETY: The cursor is null or a linked entry, per type invariants. A linked entry is not
        // freed while `ep->mtx` is held, thus for as long as `self` is borrowed.
        let entry = unsafe { last.cursor.cast::<EpItem>().as_ref() }?;
        Some((entry, last.cursor_toff))
    }

    /// Returns the identity of the target file of the entry that was added as `tfd` and has `toff`
    /// other entries of that fd before it, or [`None`] if there is no such entry. The order is that
    /// of `/proc/PID/fdinfo/EFD`.
    ///
    /// A lookup continues from the entry found last, if that has the same fd and no greater toff:
    /// the entries of one fd in ascending order then take amortized constant time each. After a
    /// change of the list, or a lookup of another fd or a larger toff in between, a lookup is
    /// O(log n + `toff`) in the length of the list.
    ///
    /// Mirrors `ep_find_tfd()` in `fs/eventpoll.c`.
    #[inline]
    pub fn target(&mut self, tfd: c_int, toff: u32) -> Option<FileId<'_>> {
        let tree = self.tree();
        let (entries, skip) = match self.cursor() {
            Some((entry, at)) if entry.tfd() == tfd && at <= toff => {
                // SAFETY: The cursor is linked in this tree, per type invariants.
                (unsafe { tree.iter_from(entry) }, toff - at)
            }
            _ => (tree.lower_bound(|entry| entry.tfd() < tfd), toff),
        };
        let entry = entries
            .take_while(|entry| entry.tfd() == tfd)
            .nth(skip as usize)?;

        let ep = self.ep.0.get();
        // INVARIANT: `entry` is linked in the tree.
        //
        // SAFETY: As for `cursor()`.
        unsafe {
            let last = &raw mut (*ep).__bindgen_anon_1.__bindgen_anon_1;
            (*last).cursor = entry.0.get();
            (*last).cursor_toff = toff;
        }
        Some(entry.target())
    }
}

#[cfg(CONFIG_RUST_EVENTPOLL_KUNIT_TEST)]
#[macros::kunit_tests(rust_fs_eventpoll)]
mod tests {
    use super::*;
    use crate::{
        container_of,
        prelude::*,
        sync::static_lock_class, //
    };
    use core::{
        cell::Cell,
        ptr, //
    };

    /// An epoll instance with as much as this module reads: the mutex, the tree and the cursor.
    ///
    /// # Invariants
    ///
    /// `ep->rbr` is the tree of those `items` whose flag is set. Neither vector changes its length.
    #[pin_data]
    struct Fixture {
        #[pin]
        ep: Opaque<bindings::eventpoll>,
        items: KVec<Opaque<bindings::epitem>>,
        linked: KVec<Cell<bool>>,
    }

    impl Fixture {
        /// Makes these entries, pairs of an fd and a file address, and links the first `linked` of
        /// them. There are no files at the addresses.
        fn new(entries: &[(c_int, usize)], linked: usize) -> Result<Pin<KBox<Self>>> {
            let mut items = KVec::new();
            let mut flags = KVec::new();
            for &(fd, file) in entries {
                let mut epi = bindings::epitem::default();
                epi.ffd.fd = fd;
                epi.ffd.file = ptr::without_provenance_mut(file);
                items.push(Opaque::new(epi), GFP_KERNEL)?;
                flags.push(Cell::new(false), GFP_KERNEL)?;
            }

            // INVARIANT: The tree is empty, and no flag is set.
            let init = pin_init!(Self {
                // SAFETY: `ep` is valid for writes, and does not move. The name and the key of the
                // mutex are static.
                ep <- Opaque::ffi_init(|ep: *mut bindings::eventpoll| unsafe {
                    ep.write(bindings::eventpoll::default());
                    bindings::__mutex_init(
                        &raw mut (*ep).mtx,
                        c"Fixture::ep".as_char_ptr(),
                        static_lock_class!().as_ptr(),
                    );
                }),
                items,
                linked: flags,
            });
            let fixture = KBox::pin_init(init, GFP_KERNEL)?;
            (0..linked).for_each(|i| fixture.insert(i));
            Ok(fixture)
        }

        fn ep(&self) -> &EventPoll {
            // INVARIANT: The mutex, the tree and the cursor are set up as by `ep_alloc()`.
            //
            // SAFETY: `ep` is valid, and `EventPoll` is `#[repr(transparent)]` over it.
            unsafe { &*(&raw const self.ep).cast() }
        }

        /// Returns the fd and the file address of an entry.
        fn key(&self, i: usize) -> (c_int, usize) {
            // SAFETY: The items are valid, and their keys do not change.
            let key = unsafe { (*self.items[i].get()).ffd };
            (key.fd, { key.file }.addr())
        }

        fn reset_cursor(&self) {
            // SAFETY: `ep` is valid, and no other thread uses it.
            unsafe { (*self.ep.get()).__bindgen_anon_1.__bindgen_anon_1.cursor = ptr::null_mut() };
        }

        /// Links an entry that is not linked, as `ep_rbtree_insert()` does.
        fn insert(&self, i: usize) {
            self.linked[i].set(true);
            self.reset_cursor();
            // SAFETY: `rbr` is a valid tree of items, per type invariants. The item is not in it,
            // and is linked where the descent for its key ends.
            unsafe {
                let key = |epi: *mut bindings::epitem| ((*epi).ffd.fd, (*epi).ffd.file);
                let epi = self.items[i].get();
                let root = &raw mut (*self.ep.get()).rbr;
                let mut parent = ptr::null_mut();
                let mut link = &raw mut (*root).rb_node;
                while !(*link).is_null() {
                    parent = *link;
                    let other = container_of!(parent, bindings::epitem, __bindgen_anon_1.rbn);
                    link = if key(epi) < key(other) {
                        &raw mut (*parent).rb_left
                    } else {
                        &raw mut (*parent).rb_right
                    };
                }
                let node = &raw mut (*epi).__bindgen_anon_1.rbn;
                bindings::rb_link_node(node, parent, link);
                bindings::rb_insert_color(node, root);
            }
        }

        /// Unlinks an entry, as `ep_remove_epi()` does.
        fn erase(&self, i: usize) {
            self.linked[i].set(false);
            self.reset_cursor();
            // SAFETY: The item is in the tree, per type invariants.
            unsafe {
                let node = &raw mut (*self.items[i].get()).__bindgen_anon_1.rbn;
                bindings::rb_erase(node, &raw mut (*self.ep.get()).rbr);
            }
        }

        fn lookup(&self, tfd: c_int, toff: u32) -> Option<usize> {
            Some(self.ep().lock().target(tfd, toff)?.as_ptr().addr())
        }

        /// Does what `lookup()` does by a plain scan.
        fn scan(&self, tfd: c_int, toff: u32) -> Option<usize> {
            let files = || {
                (0..self.items.len())
                    .filter(|&i| self.linked[i].get())
                    .map(|i| self.key(i))
                    .filter(|key| key.0 == tfd)
                    .map(|key| key.1)
            };
            files().find(|&file| files().filter(|&other| other < file).count() == toff as usize)
        }

        fn check(&self, tfd: c_int, toff: u32) -> Result {
            let (found, expected) = (self.lookup(tfd, toff), self.scan(tfd, toff));
            if found != expected {
                pr_err!("tfd {tfd} toff {toff} is {found:x?}, not {expected:x?}\n");
                return Err(EINVAL);
            }
            Ok(())
        }

        /// Checks each lookup that finds an entry, in ascending order, each fd until it ends.
        fn check_all(&self) -> Result {
            for tfd in Iterator::chain(-2..20, [c_int::MIN, c_int::MAX]) {
                for toff in 0.. {
                    self.check(tfd, toff)?;
                    if self.scan(tfd, toff).is_none() {
                        break;
                    }
                }
            }
            Ok(())
        }
    }

    /// Numbers that only depend on the seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % limit
        }
    }

    /// Entries that share an fd, between others.
    const SHARED: [(c_int, usize); 7] = [
        (2, 0x5000),
        (3, 0),
        (3, 0x1000),
        (3, 0x2000),
        (3, usize::MAX),
        (4, 0),
        (4, 0x3000),
    ];

    #[test]
    fn empty() -> Result {
        Fixture::new(&[], 0)?.check_all()
    }

    /// Any lookup after any other one.
    #[test]
    fn cursor() -> Result {
        let fixture = Fixture::new(&SHARED, SHARED.len())?;
        let lookups = || (1..6).flat_map(|tfd| (0..6).map(move |toff| (tfd, toff)));
        for (first_tfd, first_toff) in lookups() {
            for (tfd, toff) in lookups() {
                fixture.check(first_tfd, first_toff)?;
                fixture.check(tfd, toff)?;
            }
        }
        Ok(())
    }

    #[test]
    fn random() -> Result {
        for seed in 0..50 {
            let mut random = Random(seed);
            let mut entries = KVec::new();
            for _ in 0..1 + random.below(60) {
                let entry = (random.below(18) as c_int, random.below(1000));
                // Skip duplicates: `epoll_ctl()` fails with `EEXIST`.
                if !entries.contains(&entry) {
                    entries.push(entry, GFP_KERNEL)?;
                }
            }
            let fixture = Fixture::new(&entries, random.below(entries.len() + 1))?;
            for _ in 0..200 {
                let i = random.below(entries.len());
                match random.below(8) {
                    0 if fixture.linked[i].get() => fixture.erase(i),
                    0 => fixture.insert(i),
                    _ => fixture
                        .check(random.below(18) as c_int, random.below(5) as u32)
                        .inspect_err(|_| pr_err!("the seed was {seed}\n"))?,
                }
            }
            fixture.check_all()?;
        }
        Ok(())
    }

    #[test]
    fn lock_is_held_and_released() -> Result {
        let fixture = Fixture::new(&SHARED, SHARED.len())?;
        // SAFETY: The fixture has initialised the mutex, and outlives the reference.
        let mutex = unsafe { Mutex::from_raw(&raw mut (*fixture.ep.get()).mtx) };

        let mut list = fixture.ep().lock();
        assert!(mutex.try_lock().is_none());
        assert!(list.target(3, 1).is_some());
        assert!(mutex.try_lock().is_none());
        drop(list);
        assert!(mutex.try_lock().is_some());
        Ok(())
    }
}
