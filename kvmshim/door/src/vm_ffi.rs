//! What Python calls for a whole VM: its coalesced writes and its dirty rings.
#![allow(unsafe_code, reason = "the boundary with C")]

use std::ffi::c_int;
use std::os::fd::BorrowedFd;

use crate::coalesced::RING_BYTES;
use crate::ioeventfd::Space;
use crate::shared_pages::SharedPages;
use crate::{vm_door, written};

fn space(port: bool) -> Space {
    if port { Space::Port } else { Space::Memory }
}

/// A VM begins. `page` is a memfd of one page, the ring of its coalesced writes. False: it cannot be
/// mapped.
///
/// # Safety
/// `page` is an open descriptor for the time of the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_vm_begin(vmid: u16, page: c_int) -> bool {
    // SAFETY: as the caller promises.
    let page = SharedPages::map(unsafe { BorrowedFd::borrow_raw(page) }, 0, RING_BYTES);
    page.is_ok_and(|page| {
        vm_door::begin(vmid, page);
        true
    })
}

/// A VM ends.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_vm_end(vmid: u16) {
    vm_door::forget(vmid);
}

/// Adds a zone of coalesced writes. False: there are too many.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_zone_add(vmid: u16, port: bool, start: u64, bytes: u32) -> bool {
    vm_door::of_vm(vmid).is_some_and(|door| door.coalesced.add(space(port), start, bytes))
}

/// Takes out the zones that hold the whole range.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_zone_remove(vmid: u16, port: bool, start: u64, bytes: u32) {
    if let Some(door) = vm_door::of_vm(vmid) {
        door.coalesced.remove(space(port), start, bytes);
    }
}

/// Says where the slot of a number is, as hypercalls have addresses; with no bytes it is nowhere.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_slot_set(vmid: u16, number: u32, gpa: u64, bytes: u64) {
    if let Some(door) = vm_door::of_vm(vmid) {
        door.rings.set_slot(number, gpa, bytes);
    }
}

/// Frees the harvested entries of the VM's dirty rings and has their pages logged anew; how many.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_rings_reset(vmid: u16) -> u32 {
    vm_door::of_vm(vmid).map_or(0, |door| door.rings.reset(|pages| written::clear(vmid, pages)))
}
