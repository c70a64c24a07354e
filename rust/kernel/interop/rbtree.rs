// SPDX-License-Identifier: GPL-2.0

//! Rust interface for C red-black trees.
//!
//! This module provides a read-only, typed view of a tree of `rb_node`s that C code owns and
//! orders: iteration in order and search for a lower bound. It should only be used for cases where
//! C and Rust code share direct access to the same tree through a C interop interface.
//!
//! Note: This *must not* be used by Rust components that just need a red-black tree. Use
//! [`kernel::rbtree::RBTree`] instead.
//!
//! C header: [`include/linux/rbtree.h`](srctree/include/linux/rbtree.h)
//!
//! # Examples
//!
//! ```
//! use kernel::{
//!     bindings,
//!     interop::rbtree::crbtree_create,
//!     types::Opaque, //
//! };
//! # // Create a test tree with keys (10, 20, 30) - normally done by C code but it is emulated here
//! # // for doctests using the C bindings.
//! # use core::ptr;
//! #
//! # /// C struct with embedded `rb_node` (typically will be allocated by C code).
//! # #[repr(C)]
//! # pub struct SampleItemC {
//! #     pub key: i32,
//! #     pub node: bindings::rb_node,
//! # }
//! #
//! # let mut root = bindings::rb_root::default();
//! # let root = &raw mut root;
//! #
//! # let mut items = [10, 20, 30].map(|key| SampleItemC {
//! #     key,
//! #     node: bindings::rb_node::default(),
//! # });
//! # let items = items.as_mut_ptr();
//! #
//! # let mut parent = ptr::null_mut();
//! # // SAFETY: `root` is a valid, empty tree.
//! # let mut link = unsafe { &raw mut (*root).rb_node };
//! # for i in 0..3 {
//! #     // SAFETY: `i` is in bounds of `items`.
//! #     let node = unsafe { &raw mut (*items.add(i)).node };
//! #     // SAFETY: Keys ascend, thus the node belongs to the right of the one before it, which is
//! #     // the last of the tree.
//! #     unsafe {
//! #         bindings::rb_link_node(node, parent, link);
//! #         bindings::rb_insert_color(node, root);
//! #         parent = bindings::rb_last(root);
//! #         link = &raw mut (*parent).rb_right;
//! #     }
//! # }
//!
//! /// Rust wrapper for the C struct.
//! ///
//! /// The item struct in this example is defined in C code as:
//! ///
//! /// ```c
//! /// struct SampleItemC {
//! ///     int key;
//! ///     struct rb_node node;
//! /// };
//! /// ```
//! #[repr(transparent)]
//! pub struct Item(Opaque<SampleItemC>);
//!
//! impl Item {
//!     pub fn key(&self) -> i32 {
//!         // SAFETY: `Item` has the same layout as `SampleItemC`.
//!         unsafe { (*self.0.get()).key }
//!     }
//! }
//!
//! // Create the typed view from the root.
//! //
//! // SAFETY: `root` is a valid tree of `SampleItemC`, linked by their field `node`, which is not
//! // modified, and `Item` is `#[repr(transparent)]` over `SampleItemC`.
//! let tree = unsafe { crbtree_create!(root, Item, SampleItemC, node) };
//!
//! assert!(tree.iter().map(Item::key).eq([10, 20, 30]));
//!
//! // The first item that is not before 20, and all after it.
//! assert!(tree.lower_bound(|item| item.key() < 20).map(Item::key).eq([20, 30]));
//! assert!(tree.lower_bound(|item| item.key() < 31).next().is_none());
//! ```

use core::{
    iter::FusedIterator,
    marker::PhantomData,
    ptr::NonNull, //
};

use crate::{
    bindings,
    types::Opaque, //
};

/// A typed, read-only view of a C red-black tree, intended for FFI use-cases where a C subsystem
/// manages a tree that Rust code needs to read.
///
/// The const generic `OFFSET` specifies the byte offset of the `rb_node` field within the struct
/// that `T` wraps.
///
/// # Invariants
///
/// - The underlying `rb_root` is the root of a well-formed red-black tree, which is not modified
///   while the view is borrowed.
/// - Each `rb_node` of the tree is at byte offset `OFFSET` of a valid struct that `T` wraps.
#[repr(transparent)]
pub struct CRbTree<T, const OFFSET: usize>(Opaque<bindings::rb_root>, PhantomData<T>);

impl<T, const OFFSET: usize> CRbTree<T, OFFSET> {
    /// Create a typed [`CRbTree`] reference from a raw `rb_root` pointer.
    ///
    /// # Safety
    ///
    /// - `root` must point at the root of a well-formed red-black tree (e.g. `RB_ROOT`, and nodes
    ///   that were added by `rb_link_node()` and `rb_insert_color()`).
    /// - `root` and all items of the tree must remain valid for the lifetime `'a`.
    /// - The tree and all linked nodes must not be modified for the lifetime `'a`.
    /// - Each node must be at byte offset `OFFSET` of a C struct that `T` is
    ///   `#[repr(transparent)]` over, and `&'a T` must be a sound reference to it, with regard to
    ///   aliasing and to the invariants of `T`.
    #[inline]
    pub unsafe fn from_raw<'a>(root: *mut bindings::rb_root) -> &'a Self {
        // INVARIANT: The caller guarantees a tree of such items, valid and unmodified for `'a`.
        //
        // SAFETY:
        // - `CRbTree` has the same layout as `rb_root` due to `#[repr(transparent)]`.
        // - `root` is valid and unmodified for `'a` per caller guarantees.
        unsafe { &*root.cast() }
    }

    /// Create an iterator over all items, in the order of the tree.
    #[inline]
    pub fn iter(&self) -> Iter<'_, T, OFFSET> {
        self.lower_bound(|_| false)
    }

    /// Create an iterator over the items from the first one for which `before` is false, in the
    /// order of the tree.
    ///
    /// `before` returns whether an item is before the bound. The items for which
    /// it is true must all be before those for which it is false; else the iterator starts at an
    /// arbitrary item.
    ///
    /// Calls `before` once for each level of the tree, which is O(log n).
    #[inline]
    pub fn lower_bound(&self, mut before: impl FnMut(&T) -> bool) -> Iter<'_, T, OFFSET> {
        // SAFETY: `self.0` is a valid `rb_root` per type invariants.
        let mut next = NonNull::new(unsafe { (*self.0.get()).rb_node });
        let mut bound = None;

        while let Some(node) = next {
            // SAFETY: `node` was reached from the root, thus it is in this tree.
            let child = if before(unsafe { self.item(node) }) {
                // SAFETY: The nodes of this tree are valid per type invariants.
                unsafe { (*node.as_ptr()).rb_right }
            } else {
                bound = Some(node);
                // SAFETY: As above.
                unsafe { (*node.as_ptr()).rb_left }
            };
            next = NonNull::new(child);
        }

        // INVARIANT: `bound` is `None` or was reached from the root of this tree.
        Iter {
            tree: self,
            node: bound,
            yielded: false,
        }
    }

    /// Create an iterator over `item` and the items after it, in the order of the tree.
    ///
    /// # Safety
    ///
    /// `item` must be an item of this tree.
    #[inline]
    pub unsafe fn iter_from<'a>(&'a self, item: &'a T) -> Iter<'a, T, OFFSET> {
        // SAFETY: The item has its node at byte offset `OFFSET`, per type invariants: the result is
        // in bounds of the item.
        let node = unsafe { NonNull::from(item).byte_add(OFFSET) }.cast();
        // INVARIANT: `item` is in this tree per caller guarantees.
        Iter {
            tree: self,
            node: Some(node),
            yielded: false,
        }
    }

    /// Get the item that `node` is embedded in.
    ///
    /// # Safety
    ///
    /// `node` must be a node of this tree.
    #[inline]
    unsafe fn item(&self, node: NonNull<bindings::rb_node>) -> &T {
        // SAFETY: Per type invariants, `node` is at byte offset `OFFSET` of a struct that `T`
        // wraps, and that is valid for as long as the tree is borrowed.
        unsafe { node.byte_sub(OFFSET).cast::<T>().as_ref() }
    }
}

/// An iterator over items of a [`CRbTree`], in the order of the tree.
///
/// # Invariants
///
/// `node`, if any, is a node of `tree`.
pub struct Iter<'a, T, const OFFSET: usize> {
    tree: &'a CRbTree<T, OFFSET>,
    /// The item that was yielded last, or the one to begin with. The successor is only looked for
    /// when it is asked for: most callers of [`CRbTree::lower_bound`] take one item.
    node: Option<NonNull<bindings::rb_node>>,
    /// Whether `node` was yielded.
    yielded: bool,
}

impl<'a, T, const OFFSET: usize> Iterator for Iter<'a, T, OFFSET> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let mut node = self.node?;

        if self.yielded {
            // INVARIANT: The successor of a node of the tree is one, too.
            //
            // SAFETY: `node` is a node of a tree that is well-formed and not modified while it is
            // borrowed, per type invariants.
            self.node = NonNull::new(unsafe { bindings::rb_next(node.as_ptr()) });
            node = self.node?;
        }
        self.yielded = true;

        // SAFETY: `node` is a node of `tree` per type invariants.
        Some(unsafe { self.tree.item(node) })
    }
}

impl<T, const OFFSET: usize> FusedIterator for Iter<'_, T, OFFSET> {}

/// Create a C red-black tree interface [`CRbTree`] from a raw `rb_root` pointer.
///
/// This macro creates a `&CRbTree<T, OFFSET>` for a tree of items of type `$rust_type` linked via
/// the `$field` field in the underlying C struct `$c_type`.
///
/// # Arguments
///
/// - `$root`: Raw pointer to the `rb_root` object (`*mut bindings::rb_root`).
/// - `$rust_type`: Each item's Rust wrapper type.
/// - `$c_type`: Each item's C struct type that contains the embedded `rb_node`.
/// - `$field`: The name of the `rb_node` field within the C struct.
///
/// # Safety
///
/// The caller must ensure:
///
/// - `$root` points at the root of a well-formed red-black tree.
/// - The root and all items remain valid, and the tree is not modified, for the lifetime of the
///   returned reference.
/// - The items are of type `$c_type`, linked via `$field`.
/// - `$rust_type` is `#[repr(transparent)]` over `$c_type`, and its invariants hold for each item.
///
/// # Examples
///
/// Refer to the examples in the [`crate::interop::rbtree`] module documentation.
#[macro_export]
macro_rules! crbtree_create {
    ($root:expr, $rust_type:ty, $c_type:ty, $($field:tt).+) => {{
        // Compile-time check that field path is an `rb_node`.
        let _: fn(*const $c_type) -> *const $crate::bindings::rb_node =
            |p| &raw const (*p).$($field).+;

        // Calculate offset and create `CRbTree`.
        const OFFSET: usize = {
            ::core::assert!(
                ::core::mem::size_of::<$rust_type>() == ::core::mem::size_of::<$c_type>()
            );
            ::core::assert!(
                ::core::mem::align_of::<$rust_type>() == ::core::mem::align_of::<$c_type>()
            );
            ::core::mem::offset_of!($c_type, $($field).+)
        };
        $crate::interop::rbtree::CRbTree::<$rust_type, OFFSET>::from_raw($root)
    }};
}
pub use crbtree_create;

#[cfg(CONFIG_RUST_INTEROP_RBTREE_KUNIT_TEST)]
#[macros::kunit_tests(rust_interop_rbtree)]
mod tests {
    use super::*;
    use crate::{
        alloc::{
            flags::GFP_KERNEL,
            KVVec, //
        },
        container_of,
        error::{
            code::EINVAL,
            Result, //
        },
        pr_err, //
    };
    use core::{
        iter,
        ptr, //
    };

    /// An item as C code would have it in its tree. The `id` tells items of one key apart.
    #[repr(C)]
    struct ItemC {
        key: u32,
        id: usize,
        node: bindings::rb_node,
    }

    #[repr(transparent)]
    struct Item(Opaque<ItemC>);

    impl Item {
        fn get(&self) -> (u32, usize) {
            // SAFETY: `Item` has the same layout as `ItemC`; `key` and `id` never change.
            unsafe { ((*self.0.get()).key, (*self.0.get()).id) }
        }

        fn node(&self) -> *mut bindings::rb_node {
            // SAFETY: `Item` has the same layout as `ItemC`; only the address is taken.
            unsafe { &raw mut (*self.0.get()).node }
        }
    }

    /// A tree that was built by the C functions, and its expected contents.
    ///
    /// # Invariants
    ///
    /// `root` is a tree of nodes in `items`, none of which moves: the vector does not change.
    struct Fixture {
        root: Opaque<bindings::rb_root>,
        items: KVVec<Item>,
        sorted: KVVec<(u32, usize)>,
    }

    impl Fixture {
        /// Inserts items with these keys, one after the other.
        fn new(keys: impl Iterator<Item = u32>) -> Result<Self> {
            let mut items = KVVec::new();
            let mut sorted = KVVec::new();
            for (id, key) in keys.enumerate() {
                let node = bindings::rb_node::default();
                items.push(Item(Opaque::new(ItemC { key, id, node })), GFP_KERNEL)?;
                sorted.push((key, id), GFP_KERNEL)?;
            }
            sorted.sort_unstable();

            // INVARIANT: The tree is empty, and `items` is complete.
            let fixture = Self {
                root: Opaque::new(bindings::rb_root::default()),
                items,
                sorted,
            };
            for item in &fixture.items {
                fixture.insert(item);
            }
            Ok(fixture)
        }

        /// Links an item of `items`, after those of the same key.
        fn insert(&self, item: &Item) {
            let root = self.root.get();
            let mut parent = ptr::null_mut();

            // SAFETY: `root` is a valid tree of items, per type invariants. `item` is not in it
            // yet, and is linked where the descent for its key ends.
            unsafe {
                let mut link = &raw mut (*root).rb_node;
                while !(*link).is_null() {
                    parent = *link;
                    link = if item.get().0 < (*container_of!(parent, ItemC, node)).key {
                        &raw mut (*parent).rb_left
                    } else {
                        &raw mut (*parent).rb_right
                    };
                }
                bindings::rb_link_node(item.node(), parent, link);
                bindings::rb_insert_color(item.node(), root);
            }
        }

        /// Erases the items for which `which` is true.
        fn erase(&mut self, mut which: impl FnMut() -> bool) {
            self.sorted.retain(|&mut (_, id)| {
                let erased = which();
                if erased {
                    // SAFETY: The items in `sorted` are in the tree.
                    unsafe { bindings::rb_erase(self.items[id].node(), self.root.get()) };
                }
                !erased
            });
        }

        /// Compares the view of the tree with the sorted vector: iteration over all of it, and the
        /// lower bound of each key, each gap between two keys, and both ends.
        fn check(&self) -> Result {
            // SAFETY: `root` is a valid tree of `ItemC`, linked by their field `node`, that nobody
            // modifies while it is borrowed, and `Item` is `#[repr(transparent)]` over `ItemC`.
            let tree = unsafe { crbtree_create!(self.root.get(), Item, ItemC, node) };

            let mut iter = tree.iter();
            if !iter.by_ref().map(Item::get).eq(self.sorted.iter().copied()) {
                pr_err!("iteration is not in order\n");
                return Err(EINVAL);
            }
            if iter.next().is_some() {
                pr_err!("iteration continues past its end\n");
                return Err(EINVAL);
            }

            // A tree of `n` nodes has at most `2 * log2(n + 1)` levels.
            let limit = 2 * (self.sorted.len() + 1).ilog2() + 2;
            let keys = self.sorted.iter().map(|item| item.0);
            for bound in keys.flat_map(|key| [key, key + 1]).chain([0, u32::MAX]) {
                let first = self.sorted.partition_point(|item| item.0 < bound);
                let expected = self.sorted[first..].iter().copied();

                let mut calls = 0;
                let mut found = tree.lower_bound(|item| {
                    calls += 1;
                    item.get().0 < bound
                });
                if calls > limit {
                    pr_err!("the lower bound of {bound} takes {calls} calls\n");
                    return Err(EINVAL);
                }
                let item = found.next();
                let rest = found.map(Item::get).take(4);
                if !item
                    .iter()
                    .copied()
                    .map(Item::get)
                    .chain(rest)
                    .eq(expected.clone().take(5))
                {
                    pr_err!("the lower bound of {bound} is wrong\n");
                    return Err(EINVAL);
                }
                if let Some(item) = item {
                    // SAFETY: The item was found in this tree.
                    let from = unsafe { tree.iter_from(item) };
                    if !from.map(Item::get).take(5).eq(expected.take(5)) {
                        pr_err!("iteration from {bound} is not in order\n");
                        return Err(EINVAL);
                    }
                }
            }
            Ok(())
        }
    }

    /// Numbers that only depend on the seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u32) -> u32 {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (self.0 >> 33) as u32 % limit
        }
    }

    #[test]
    fn empty() -> Result {
        Fixture::new(iter::empty())?.check()
    }

    #[test]
    fn random() -> Result {
        for seed in 0..1000 {
            let mut random = Random(seed);
            let (size, limit) = (random.below(200), random.below(400) + 1);
            let mut fixture = Fixture::new((0..size).map(|_| random.below(limit)))?;
            let mut check = || {
                fixture.check()?;
                fixture.erase(|| random.below(3) == 0);
                fixture.check()
            };
            check().inspect_err(|_| pr_err!("the seed was {seed}\n"))?;
        }
        Ok(())
    }
}
