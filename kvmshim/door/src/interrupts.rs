//! KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_SIGNAL_MSI: a VM's ioctls that are answered here.
//!
//! `Documentation/virt/kvm/api.rst`. Device models make one of them at each access of a device's
//! register that could change its interrupt, so they are as frequent as exits. Only what succeeds is
//! answered; the rest of the door knows the errno of what does not, and finds it unchanged.

use std::sync::Arc;

use kvm_bindings::{kvm_irq_level, kvm_msi};
use microv::abi::hypercall::MV_VM_OP_VAL;
use microv::abi::index::{MV_VM_OP_IRQ_LINE_IDX_VAL, MV_VM_OP_SIGNAL_MSI_IDX_VAL};
use microv::abi::irqchip::{MV_IRQ_IGNORED, MV_IRQ_LEVEL};
use microv::abi::status::MV_STATUS_SUCCESS;

use crate::fuse::IoctlFn;
use crate::gate::Gate;
use crate::owner::Owner;
use crate::receive::Reading;
use crate::root_page::call3;

/// What KVM_IRQ_LINE_STATUS says of a line that is masked or leads nowhere: -1.
const IGNORED: u32 = u32::MAX;

/// `struct kvm_irq_level`: `irq` or `status`, `level`.
pub type Level = [u32; 2];

/// `struct kvm_msi`: `address_lo`, `address_hi`, `data`, `flags`; the others mean nothing on x86.
pub type Message = [u32; 8];

/// A VM file: what these ioctls need.
pub struct Interrupts {
    vmid: u16,
    owner: Owner,
    /// Where every other ioctl goes.
    pub rest: IoctlFn,
    /// The client's gate.
    pub gate: Arc<Gate>,
    /// That of the VM's session.
    pub reading: Arc<Reading>,
}

impl Interrupts {
    /// Those of a VM that `process` has made.
    pub fn new(vmid: u16, process: u32, rest: IoctlFn, gate: Arc<Gate>) -> Self {
        Self { vmid, owner: Owner::new(process), rest, gate, reading: Arc::default() }
    }

    /// Drives a line for thread `tid`; its status as KVM_IRQ_LINE_STATUS returns it.
    pub fn drive(&self, tid: u32, [gsi, level]: Level) -> Option<u32> {
        let flags = if level == 0 { 0 } else { MV_IRQ_LEVEL };
        let raised = self.call(tid, MV_VM_OP_IRQ_LINE_IDX_VAL, gsi.into(), flags)?;
        Some(if raised == MV_IRQ_IGNORED { IGNORED } else { raised as u32 })
    }

    /// Delivers a message for thread `tid`; how many local APICs have got it.
    pub fn signal(&self, tid: u32, message: Message) -> Option<i32> {
        let [low, high, data, flags, ..] = message;
        if flags != 0 {
            return None;
        }
        let address = u64::from(high) << 32 | u64::from(low);
        let raised = self.call(tid, MV_VM_OP_SIGNAL_MSI_IDX_VAL, address, data.into())?;
        (raised != MV_IRQ_IGNORED).then_some(raised as i32)
    }

    fn call(&self, tid: u32, index: u64, first: u64, second: u64) -> Option<u64> {
        if !self.owner.has(tid) {
            return None;
        }
        let (status, raised) = call3(MV_VM_OP_VAL, index, self.vmid.into(), first, second);
        (status == MV_STATUS_SUCCESS).then_some(raised)
    }
}

const _: () = {
    assert!(size_of::<kvm_irq_level>() == size_of::<Level>());
    assert!(size_of::<kvm_msi>() == size_of::<Message>());
};
