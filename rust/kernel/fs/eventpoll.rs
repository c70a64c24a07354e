// SPDX-License-Identifier: GPL-2.0

//! Epoll files and their interest sets.
//!
//! C source: [`fs/eventpoll.c`](srctree/fs/eventpoll.c), whose private structures are in
//! [`fs/eventpoll.h`](srctree/fs/eventpoll.h).
//!
//! An epoll file watches the *targets* of its *interest set*. A target is a pair of a file and the
//! number it had when it was added, its *tfd*. Several targets may have the same number, since the
//! number of a file that lives on elsewhere can be used for another file.
//!
//! [`EventPoll::lock`] is the only way to the interest set, and whatever is learnt from it borrows
//! from the lock. Thus an address that is used after the lock is released does not compile.
//!
//! # Examples
//!
//! ```
//! use kernel::fs::{
//!     eventpoll::EventPoll,
//!     RemoteFile, //
//! };
//!
//! /// Tells whether `epoll_file` watches `file` under the number `tfd`.
//! fn is_watched(epoll_file: &RemoteFile, file: &RemoteFile, tfd: i32) -> Result<bool> {
//!     let set = EventPoll::from_file(epoll_file)?.lock();
//!     let watched = set.targets(tfd).any(|target| target.kcmp(file) == 0);
//!     Ok(watched)
//! }
//! ```

use crate::{
    bindings,
    error::{code::*, Result},
    ffi::c_int,
    fs::file::RemoteFile,
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
/// Wraps the kernel's `struct eventpoll`.
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
    pub fn from_file(file: &RemoteFile) -> Result<&EventPoll> {
        // SAFETY: `file` is a valid `struct file`, since the shared reference guarantees a nonzero
        // refcount.
        if !unsafe { bindings::is_file_epoll(file.as_ptr()) } {
            return Err(EINVAL);
        }

        // SAFETY: `file` is valid. The field `private_data` of an epoll file is set before anybody
        // can see the file, and never changes.
        let ep = unsafe { (*file.as_ptr()).private_data };

        // INVARIANT: `private_data` of an epoll file is what `ep_alloc()` set up.
        //
        // SAFETY: The epoll file keeps a reference to its `struct eventpoll` until it is released,
        // which the refcount behind the shared reference `file` rules out while the returned
        // reference exists. `EventPoll` is `#[repr(transparent)]`.
        Ok(unsafe { &*ep.cast() })
    }

    /// Takes `ep->mtx` and gives access to the interest set. The lock is released when the returned
    /// value is dropped.
    ///
    /// This function may sleep. The caller must not hold the lock of another epoll instance: their
    /// order is the nesting of the instances (see "Locking" in `fs/eventpoll.c`).
    #[inline]
    pub fn lock(&self) -> InterestSet<'_> {
        // SAFETY: `self` is a valid `struct eventpoll`; only the address of the field is taken.
        let mtx = unsafe { &raw mut (*self.0.get()).mtx };

        // SAFETY: `ep_alloc()` has initialised the mutex, per type invariants, and it is valid as
        // long as `self` is.
        let mutex = unsafe { Mutex::from_raw(mtx) };

        // INVARIANT: The guard is that of `self`.
        InterestSet {
            ep: self,
            _guard: mutex.lock(),
        }
    }
}

/// An entry of the interest set.
///
/// Wraps the kernel's `struct epitem`.
///
/// # Invariants
///
/// The entry is linked in the tree of an [`EventPoll`] whose `ep->mtx` is held.
#[repr(transparent)]
struct EpItem(Opaque<bindings::epitem>);

impl EpItem {
    /// Returns the number under which the target was added, `epi->ffd.fd`.
    #[inline]
    fn tfd(&self) -> c_int {
        // SAFETY: The entry is valid, and `ffd` never changes once it is linked.
        unsafe { (*self.0.get()).ffd.fd }
    }

    /// Returns the address of the target's file, `epi->ffd.file`.
    #[inline]
    fn file(&self) -> *mut bindings::file {
        // SAFETY: The entry is valid, and `ffd` never changes once it is linked.
        unsafe { (*self.0.get()).ffd.file }
    }
}

/// The interest set of an epoll instance, locked.
///
/// # Invariants
///
/// `ep->mtx` of `ep` is held as long as this value exists.
pub struct InterestSet<'a> {
    ep: &'a EventPoll,
    _guard: MutexGuard<'a, ()>,
}

impl InterestSet<'_> {
    /// Returns the tree of entries, ordered by number and, within one number, by file address.
    #[inline]
    fn tree(&self) -> &CRbTree<EpItem, { offset_of!(bindings::epitem, __bindgen_anon_1.rbn) }> {
        // SAFETY: `ep` is a valid `struct eventpoll`; only the address of the field is taken.
        let root = unsafe { &raw mut (*self.ep.0.get()).rbr };

        // SAFETY: `ep_alloc()` has initialised the tree, and its items are of type `struct epitem`,
        // linked by `rbn`, over which `EpItem` is `#[repr(transparent)]`. `ep->mtx` protects the
        // tree from changes, and is held as long as `self` is borrowed.
        unsafe { crbtree_create!(root, EpItem, bindings::epitem, __bindgen_anon_1.rbn) }
    }

    /// Returns all targets with the number `tfd`, in the order of their file addresses.
    ///
    /// The n-th of them, counted from 0, is the one that `toff` = n of `struct kcmp_epoll_slot`
    /// stands for. Their order is that of `/proc/PID/fdinfo/EFD`.
    ///
    /// Finding the first one is O(log n) in the size of the set, and so is at worst each further
    /// step; a walk over all of them is linear.
    ///
    /// Mirrors `ep_find_tfd()` in `fs/eventpoll.c`.
    #[inline]
    pub fn targets(&self, tfd: c_int) -> impl Iterator<Item = Target<'_>> {
        self.tree()
            .lower_bound(move |item| item.tfd() < tfd)
            .take_while(move |item| item.tfd() == tfd)
            .map(Target)
    }
}

/// A target in a locked interest set.
///
/// The file that it stands for is not pinned: it may be about to be released, with
/// `eventpoll_release_file()` waiting for the lock that the [`InterestSet`] holds. Its address is
/// valid for comparison, and for nothing else.
pub struct Target<'a>(&'a EpItem);

impl Target<'_> {
    /// Compares `file` with the file of this target, as kcmp(2) does for `KCMP_FILE`.
    ///
    /// Returns 0 if they are the same, 1 if `file` comes first in the order of `KCMP_FILE`, 2 if it
    /// comes last. Since `file` is pinned and the target is locked, the answer is true when it is
    /// given.
    ///
    /// Mirrors the end of `kcmp_epoll_target()` in `kernel/kcmp.c`.
    #[inline]
    pub fn kcmp(&self, file: &RemoteFile) -> c_int {
        // SAFETY: `kcmp_ptr()` compares the addresses and does not read what they point at.
        unsafe {
            bindings::kcmp_ptr(
                file.as_ptr().cast(),
                self.0.file().cast(),
                bindings::kcmp_type_KCMP_FILE,
            )
        }
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
    use core::ptr;

    /// An epoll instance, of which there is as much as this module reads: the mutex and the tree.
    ///
    /// # Invariants
    ///
    /// `ep->rbr` is a tree of nodes in `items`, none of which moves: the vector does not change.
    #[pin_data]
    struct Fixture {
        #[pin]
        ep: Opaque<bindings::eventpoll>,
        items: KVec<Opaque<bindings::epitem>>,
        /// What has to be in the set, in this order: numbers, and addresses of files.
        targets: KVec<(c_int, usize)>,
    }

    impl Fixture {
        /// Inserts these targets, and erases the first few of them again.
        ///
        /// There are no files at the addresses.
        fn new(inserted: &[(c_int, usize)], erased: usize) -> Result<Pin<KBox<Self>>> {
            let mut targets = KVec::new();
            targets.extend_from_slice(&inserted[erased..], GFP_KERNEL)?;
            targets.sort_unstable();

            let mut items = KVec::new();
            for &(fd, file) in inserted {
                let mut epi = bindings::epitem::default();
                epi.ffd.fd = fd;
                epi.ffd.file = ptr::without_provenance_mut(file);
                items.push(Opaque::new(epi), GFP_KERNEL)?;
            }

            // INVARIANT: The tree is empty, and `items` is complete.
            let init = pin_init!(Self {
                // SAFETY: `ep` is valid for writes, and stays where it is. The name and the key of
                // the mutex are static.
                ep <- Opaque::ffi_init(|ep: *mut bindings::eventpoll| unsafe {
                    ep.write(bindings::eventpoll::default());
                    bindings::__mutex_init(
                        &raw mut (*ep).mtx,
                        c"Fixture::ep".as_char_ptr(),
                        static_lock_class!().as_ptr(),
                    );
                }),
                items,
                targets,
            });
            let fixture = KBox::pin_init(init, GFP_KERNEL)?;
            for item in &fixture.items {
                fixture.insert(item);
            }
            for item in &fixture.items[..erased] {
                // SAFETY: All items are in the tree; each is erased once.
                unsafe {
                    bindings::rb_erase(
                        &raw mut (*item.get()).__bindgen_anon_1.rbn,
                        &raw mut (*fixture.ep.get()).rbr,
                    );
                }
            }
            Ok(fixture)
        }

        fn ep(&self) -> &EventPoll {
            // INVARIANT: The mutex and the tree are set up as by `ep_alloc()`.
            //
            // SAFETY: `ep` is valid, and `EventPoll` is `#[repr(transparent)]` over it.
            unsafe { &*(&raw const self.ep).cast() }
        }

        /// Links an item of `items` as `ep_insert()` does: by number, then by file address.
        fn insert(&self, item: &Opaque<bindings::epitem>) {
            // SAFETY: `rbr` is a valid tree of items, per type invariants. `item` is not in it yet,
            // and is linked where the descent for its key ends.
            unsafe {
                let key = |epi: *mut bindings::epitem| ((*epi).ffd.fd, (*epi).ffd.file);
                let epi = item.get();
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

        /// Compares the lookup of each number, and each place within it, with a plain scan.
        fn check(&self) -> Result {
            let set = self.ep().lock();
            self.check_number(&set, c_int::MIN)?;
            for tfd in -2..20 {
                self.check_number(&set, tfd)?;
            }
            self.check_number(&set, c_int::MAX)
        }

        fn check_number(&self, set: &InterestSet<'_>, tfd: c_int) -> Result {
            let mut scan = self.targets.iter().filter(|target| target.0 == tfd);
            for toff in 0.. {
                let found = set.targets(tfd).nth(toff);
                let found = found.map(|target| target.0.file().addr());
                let expected = scan.next().map(|target| target.1);
                if found != expected {
                    pr_err!("tfd {tfd} toff {toff} is {found:x?}, not {expected:x?}\n");
                    return Err(EINVAL);
                }
                if expected.is_none() {
                    break;
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

    #[test]
    fn empty() -> Result {
        Fixture::new(&[], 0)?.check()
    }

    #[test]
    fn one_target() -> Result {
        for fd in -1..4 {
            Fixture::new(&[(fd, 0x1000)], 0)?.check()?;
        }
        Ok(())
    }

    #[test]
    fn one_number() -> Result {
        Fixture::new(&[(3, 0x2000), (3, usize::MAX), (3, 0x1000), (3, 0)], 0)?.check()
    }

    #[test]
    fn ends_of_numbers() -> Result {
        let numbers = [0, c_int::MAX, -1, c_int::MIN, 1, -2, 19];
        for n in 0..=numbers.len() {
            let targets = numbers.map(|fd| (fd, 0x1000));
            Fixture::new(&targets[..n], 0)?.check()?;
        }
        Ok(())
    }

    #[test]
    fn random() -> Result {
        for seed in 0..1000 {
            let mut random = Random(seed);
            let mut targets = KVec::new();
            for _ in 0..random.below(100) {
                let target = (random.below(18) as c_int, random.below(1000));
                // As `epoll_ctl()`, which fails with `EEXIST`.
                if !targets.contains(&target) {
                    targets.push(target, GFP_KERNEL)?;
                }
            }
            let erased = random.below(targets.len() + 1);
            Fixture::new(&targets, erased)?
                .check()
                .inspect_err(|_| pr_err!("the seed was {seed}\n"))?;
        }
        Ok(())
    }

    #[test]
    fn lock_is_held_and_released() -> Result {
        let fixture = Fixture::new(&[(3, 0x1000)], 0)?;
        // SAFETY: The fixture has initialised the mutex, and outlives the reference.
        let mutex = unsafe { Mutex::from_raw(&raw mut (*fixture.ep.get()).mtx) };

        let set = fixture.ep().lock();
        assert!(mutex.try_lock().is_none());
        assert_eq!(set.targets(3).count(), 1);
        assert!(mutex.try_lock().is_none());
        drop(set);
        assert!(mutex.try_lock().is_some());
        Ok(())
    }
}
