//! The part of the door that runs per exit: libfuse's ioctl slots for vCPU and VM files, and KVM_RUN.
//!
//! Python owns the sessions and answers every other ioctl; KVM_RUN is answered here, without the
//! interpreter lock, and so are the general registers ([`regs`]) and interrupts that the client raises
//! ([`interrupts`]). Below this crate nothing knows KVM's structures, and in it only [`exit`],
//! [`regs`], [`run_area`], [`interrupts`], [`coalesced`] and [`dirty_ring`] do. It reaches the engine by
//! hypercalls alone, as the Python side does.
//!
//! Safe code cannot do it: libfuse hands out raw pointers, and `kvm_run` is memory that another
//! process writes at any time. `unsafe` is in [`ffi`], [`vm_ffi`],
//! [`fuse`], [`run_area`], [`shared_pages`], [`root_page`], for the live request in [`vcpu`], and for
//! descriptors in [`opener`].

mod coalesced;
mod dirty_ring;
mod eventfd;
mod exit;
pub mod ffi;
mod fuse;
mod gate;
mod hypercall;
mod hyperv;
mod interrupts;
pub mod ioctls;
mod ioeventfd;
mod irqfd;
mod opener;
mod owner;
mod pins;
mod receive;
mod regs;
mod root_page;
mod run;
mod run_area;
pub mod series;
mod shared_pages;
mod signals;
mod vcpu;
mod vm_door;
pub mod vm_ffi;
mod written;

pub use microv::ffi::mv_hypercall;
