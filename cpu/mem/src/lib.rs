//! Guest-physical memory of one virtual machine.
//!
//! [`PhysMap`] says which host page stands behind a guest-physical page; [`HostPage`] reads and
//! writes it. Guest memory belongs to the guest: other vCPUs, and the client's own threads and
//! kernel I/O in another process, write it at any moment. So no Rust reference into it ever exists;
//! every access is one volatile or atomic machine access through a raw pointer.
//!
//! Safe code cannot dereference an address that came from `mmap`, nor install a signal handler,
//! so this crate is the fence: [`PhysMap::map_page`] is the one unsafe promise ("this page stays
//! mapped"), and everything built on it is safe to call. The modules with unsafe blocks are
//! `phys_map`, `host_page`, `racy`, `runs`, `locked`, `fetch`, `sigbus` and `zeroed_words`.
//!
//! Ordering: x86 hosts only. A volatile load or store compiles to one `mov` and has the ordering
//! that the guest expects of x86 (total store order); locked accesses are sequentially consistent.

#[cfg(not(target_arch = "x86_64"))]
compile_error!("guest memory ordering is that of the host, which must be x86-64");

mod address_hasher;
mod code_marks;
mod dirty_log;
mod fetch;
mod host_page;
mod journal;
mod locked;
mod page_array;
mod page_flags;
mod phys_map;
mod racy;
mod refused;
mod runs;
mod word;
mod zeroed_words;

#[cfg(not(miri))]
mod guarded_ranges;
#[cfg(not(miri))]
mod sigbus;

pub use address_hasher::AddressHasher;
pub use code_marks::{CodeMarks, CodeWatch, Marked, granules};
pub use host_page::HostPage;
pub use journal::{noted, take_noted};
pub use locked::{LINE, SplitLock, split_lock};
pub use page_array::PageArray;
pub use page_flags::PageFlags;
pub use phys_map::{BLOCK_SIZE, MAX_GPA, MapError, PhysMap};
pub use word::Word;
pub use zeroed_words::ZeroedWords;

#[cfg(not(miri))]
pub use guarded_ranges::{register_range, unregister_range};
#[cfg(not(miri))]
pub use sigbus::install_sigbus_guard;

/// Bytes in a page of the guest-physical map; also the smallest page of the guest.
pub const PAGE_SIZE: usize = 4096;
