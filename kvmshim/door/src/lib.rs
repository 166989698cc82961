//! The part of the door that runs per exit: libfuse's ioctl slot for vCPU files, and KVM_RUN.
//!
//! Python owns the sessions and answers every other ioctl; KVM_RUN is answered here, without the
//! interpreter lock. Below this crate nothing knows KVM's structures, and in it only [`exit`] and
//! [`run_area`] do. It reaches the engine by hypercalls alone, as the Python side does.
//!
//! Safe code cannot do it: libfuse hands out raw pointers, and `kvm_run` is memory that another
//! process writes at any time. `unsafe` is in [`ffi`], [`fuse`],
//! [`run_area`], [`root_page`] and, for the live request, [`vcpu`].

mod eventfd;
mod exit;
pub mod ffi;
mod fuse;
mod gate;
pub mod ioctls;
mod ioeventfd;
mod irqfd;
mod owner;
mod root_page;
mod run;
mod run_area;
mod signals;
mod vcpu;

pub use microv::ffi::mv_hypercall;
