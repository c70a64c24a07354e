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
