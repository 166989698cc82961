//! KVM_RUN: one vCPU as the door sees it.
//!
//! `Documentation/virt/kvm/api.rst`, KVM_RUN; the order of things is that of
//! `kvm_arch_vcpu_ioctl_run`: finish the instruction whose data the client brings, then honour
//! `immediate_exit`, then run.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    KVM_EXIT_DIRTY_RING_FULL, KVM_EXIT_INTR, KVM_RUN_X86_SMM, KVM_SYNC_X86_EVENTS,
    KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS,
};
use microv::abi::run::{
    MV_EXIT_HYPERCALL_ANSWER_SIZE, MV_EXIT_MSR_ANSWER_SIZE, MV_HYPERV_MSR_DEBUG_STATUS,
    MV_RUN_FLAG_COMPLETE_ONLY, MV_RUN_FLAG_INTERRUPT_WINDOW, MV_RUN_RETURN_STATE_INTERRUPTIBLE,
    MV_RUN_RETURN_STATE_LINES_ENDED, MV_RUN_RETURN_STATE_NOTED, MV_RUN_RETURN_STATE_SMM,
    mv_run_return_t,
};

use crate::dirty_ring::DirtyRing;
use crate::exit::{Outcome, Pending, translate};
use crate::fuse::{self, IoctlFn, Request};
use crate::gate::Gate;
use crate::ioeventfd::{self, IoEventfds, Space};
use crate::irqfd;
use crate::owner::Owner;
use crate::pins;
use crate::receive::Reading;
use crate::regs;
use crate::run::{self, Entry};
use crate::run_area::{RunArea, Wishes};
use crate::signals::Signals;
use crate::vm_door::{self, VmDoor};
use crate::written;

/// What KVM_CAP_SYNC_REGS offers.
const SYNC_FIELDS: u64 = (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS) as u64;

/// The set of them that this side of the door exchanges.
const REGS: u64 = KVM_SYNC_X86_REGS as u64;

const RFLAGS_IF: u64 = 1 << 9;

/// The most data an exit asks for: a batch of string input.
const MAX_DATA: usize = 1024;

/// What the handlers of KVM_SET_SREGS and its like do with the registers in `kvm_run`: loads
/// `fields` (KVM_SYNC_X86_*) from `regs` (`struct kvm_sync_regs`), or stores them there. Returns the
/// fields that are done.
pub type SyncFn = unsafe extern "C" fn(regs: *mut u8, fields: u64, store: bool) -> u64;

/// A vCPU file: what its ioctls need here.
pub struct Vcpu {
    vmid: u16,
    vsid: u16,
    /// The VM's local APICs are in the engine, and CR8 with them.
    has_lapic: bool,
    /// The VM's eventfds that writes of the guest signal.
    events: Arc<IoEventfds>,
    area: RunArea,
    /// Where every ioctl but KVM_RUN goes.
    pub rest: IoctlFn,
    sync: SyncFn,
    /// The client's gate.
    pub gate: Arc<Gate>,
    owner: Owner,
    /// The thread whose waits for a CPU are the guest's; 0: none.
    waits_with: AtomicU32,
    /// What the VM's vCPUs share.
    door: Option<Arc<VmDoor>>,
    ring: Option<Arc<DirtyRing>>,
    /// Those of the thread in KVM_RUN.
    pub signals: Arc<Signals>,
    /// KVM's `vcpu->mutex`: serialises the ioctls of the vCPU.
    turn: Mutex<Pending>,
    /// That of its session.
    pub reading: Arc<Reading>,
}

/// Whose part of the door it is.
pub struct Ids {
    /// The VM.
    pub vmid: u16,
    /// The virtual processor's state.
    pub vsid: u16,
    /// The process that made the VM.
    pub process: u32,
    /// The VM's local APICs are in the engine.
    pub has_lapic: bool,
}

impl Vcpu {
    /// A vCPU that has not run.
    pub fn new(
        ids: Ids,
        area: RunArea,
        ring: Option<Arc<DirtyRing>>,
        rest: IoctlFn,
        sync: SyncFn,
        gate: Arc<Gate>,
    ) -> Self {
        let Ids { vmid, vsid, process, has_lapic } = ids;
        let door = vm_door::of_vm(vmid);
        if let (Some(door), Some(ring)) = (&door, &ring) {
            door.rings.add(Arc::clone(ring));
        }
        Self {
            door,
            ring,
            vmid,
            vsid,
            has_lapic,
            events: ioeventfd::of_vm(vmid),
            reading: Arc::default(),
            area,
            rest,
            sync,
            gate,
            owner: Owner::new(process),
            waits_with: AtomicU32::new(0),
            signals: Signals::new(vsid),
            turn: Mutex::default(),
        }
    }

    /// Waits for its turn and calls `body`: no other ioctl of the vCPU runs meanwhile.
    pub fn in_turn<R>(&self, body: impl FnOnce() -> R) -> R {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        body()
    }

    /// KVM_GET_REGS for thread `tid`, or a negative errno.
    pub fn get_regs(&self, tid: u32) -> Result<regs::Values, c_int> {
        self.check_owner(tid)?;
        self.in_turn(|| regs::get(self.vsid).map_err(|regs::Gone| -libc::EIO))
    }

    /// KVM_SET_REGS for thread `tid`, or a negative errno.
    pub fn set_regs(&self, tid: u32, values: &regs::Values) -> Result<(), c_int> {
        self.check_owner(tid)?;
        self.in_turn(|| regs::set(self.vsid, values).map_err(|regs::Gone| -libc::EIO))
    }

    fn check_owner(&self, tid: u32) -> Result<(), c_int> {
        if self.owner.has(tid) { Ok(()) } else { Err(-libc::EIO) }
    }

    /// KVM_RUN for thread `tid`: 0, or a negative errno.
    ///
    /// # Safety
    /// `req` is the live request of that call.
    #[allow(unsafe_code, reason = "a live request of libfuse")]
    pub unsafe fn run(&self, req: Request, arg: usize, tid: u32) -> c_int {
        if let Err(error) = self.check_owner(tid) {
            return error;
        }
        if arg != 0 {
            return -libc::EINVAL;
        }
        let mut pending = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let fields = self.area.sync_fields();
        if (fields.valid | fields.dirty) & !SYNC_FIELDS != 0 || !self.load(fields.dirty) {
            return -libc::EINVAL;
        }
        let before = self.waits_with.swap(tid, Ordering::Relaxed);
        if before != tid {
            run::wait_with(self.vsid, tid);
            pins::release(before);
            pins::keep(tid);
        }
        pins::follow(tid);
        self.signals.enter(tid);
        let data = std::ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: the request is live (caller), and a vCPU outlives the requests of its session.
        unsafe { fuse::on_interrupt(req, interrupted, data) };
        let result = self.run_until_exit(&mut pending);
        self.signals.leave();
        self.store(fields.valid);
        result
    }

    /// Takes the registers that the client has changed; false if some are refused.
    #[allow(unsafe_code, reason = "a function of the other side of the door")]
    fn load(&self, fields: u64) -> bool {
        if fields & REGS != 0 {
            if regs::set(self.vsid, &self.area.regs()).is_err() {
                return false;
            }
            self.area.set_dirty(fields & !REGS);
        }
        let fields = fields & !REGS;
        if fields == 0 {
            return true;
        }
        // SAFETY: the area lives as long as this; `sync` reads no more than `struct kvm_sync_regs`.
        let done = unsafe { (self.sync)(self.area.sync_regs(), fields, false) };
        self.area.set_dirty(fields & !done);
        done == fields
    }

    /// Shows the client the registers it wants to see.
    #[allow(unsafe_code, reason = "a function of the other side of the door")]
    fn store(&self, fields: u64) {
        if fields & REGS != 0
            && let Ok(values) = regs::get(self.vsid)
        {
            self.area.set_regs(&values);
        }
        let fields = fields & !REGS;
        if fields != 0 {
            // SAFETY: as in `load`; `sync` writes no more than `struct kvm_sync_regs`.
            unsafe { (self.sync)(self.area.sync_regs(), fields, true) };
        }
    }

    fn run_until_exit(&self, pending: &mut Pending) -> c_int {
        let wishes = self.area.wishes();
        let mut data = [0; MAX_DATA];
        let owed = std::mem::take(pending);
        let mut bytes = self.brought(owed, &mut data);
        let mut msr = (owed == Pending::DebugStatus).then(|| self.debug_status());
        loop {
            let cr8 = (!self.has_lapic).then_some(wishes.cr8);
            let full = self.ring.as_ref().is_some_and(|ring| ring.is_soft_full());
            let flags = flags(&wishes) | if full { MV_RUN_FLAG_COMPLETE_ONLY } else { 0 };
            let entry = Entry { cr8, msr: msr.take(), flags, data: &data[..bytes] };
            let mut noted = false;
            let result = run::run(self.vsid, &entry, |reason, head, page| {
                self.set_common(head);
                if head.state & MV_RUN_RETURN_STATE_LINES_ENDED != 0 {
                    irqfd::lines_ended(self.vmid);
                }
                noted = head.state & MV_RUN_RETURN_STATE_NOTED != 0;
                let writes = |space, at, data: &[u8]| self.takes(space, at, data);
                let signals = |connection| self.events.signal_connection(connection);
                translate(reason, page, &self.area, &writes, signals)
            });
            bytes = 0;
            if noted {
                self.tell_written();
            }
            match result {
                Ok(Outcome::Client(owed)) => {
                    *pending = owed;
                    return 0;
                }
                // `exit_reason` stays that of the exit whose instruction has ended: clients read it
                // again after they had it completed.
                Ok(Outcome::Refused(errno)) => return -errno,
                Ok(Outcome::Interrupted) if wishes.immediate_exit => return -libc::EINTR,
                Ok(Outcome::Interrupted) if self.signals.arrived() => {
                    self.area.set_exit_reason(KVM_EXIT_INTR);
                    return -libc::EINTR;
                }
                Ok(Outcome::Interrupted) if full => {
                    self.area.set_exit_reason(KVM_EXIT_DIRTY_RING_FULL);
                    return 0;
                }
                Ok(Outcome::Answered(value)) => {
                    data[..8].copy_from_slice(&value.to_le_bytes());
                    bytes = MV_EXIT_HYPERCALL_ANSWER_SIZE as usize;
                }
                // Not the client's; or a kick meant for a call that had ended already.
                Ok(Outcome::Done | Outcome::Interrupted) => {}
                Err(run::Refused) => return -libc::EINVAL,
            }
        }
    }

    /// A write that the client needs not see: it signals an eventfd, or waits in the ring.
    fn takes(&self, space: Space, address: u64, data: &[u8]) -> bool {
        let kept = |door: &Arc<VmDoor>| door.coalesced.keep(space, address, data);
        self.events.signal(space, address, data) || self.door.as_ref().is_some_and(kept)
    }

    /// Shows the client which pages the guest has written.
    fn tell_written(&self) {
        let ring = self.ring.as_ref();
        written::take(self.vsid, |pages| {
            if let (Some(door), Some(ring)) = (&self.door, ring) {
                door.rings.put(ring, pages);
            }
        });
    }

    /// Copies what the client brings for a pending read; returns how many bytes.
    fn brought(&self, pending: Pending, data: &mut [u8; MAX_DATA]) -> usize {
        match pending {
            Pending::Nothing | Pending::DebugStatus => 0,
            Pending::PortData(bytes) => {
                self.area.read_pio(&mut data[..bytes]);
                bytes
            }
            Pending::MsrAnswer => {
                let (value, refused) = self.area.msr_answer();
                data[..8].copy_from_slice(&value.to_le_bytes());
                data[8] = refused.into();
                MV_EXIT_MSR_ANSWER_SIZE as usize
            }
            Pending::HypercallAnswer => {
                data[..8].copy_from_slice(&self.area.hypercall_answer().to_le_bytes());
                MV_EXIT_HYPERCALL_ANSWER_SIZE as usize
            }
            Pending::HypervAnswer => {
                data[..8].copy_from_slice(&self.area.hyperv_answer().to_le_bytes());
                MV_EXIT_HYPERCALL_ANSWER_SIZE as usize
            }
            Pending::MmioData(bytes) => {
                data[..8].copy_from_slice(&self.area.mmio_data());
                bytes
            }
        }
    }

    /// The MSR that gets what the client says of the debugger's request.
    fn debug_status(&self) -> (u32, u64) {
        (MV_HYPERV_MSR_DEBUG_STATUS as u32, self.area.debug_status())
    }

    fn set_common(&self, head: &mv_run_return_t) {
        self.area.set_common(&crate::run_area::Common {
            if_flag: head.rflags & RFLAGS_IF != 0,
            ready_for_interrupt_injection: head.state & MV_RUN_RETURN_STATE_INTERRUPTIBLE != 0,
            cr8: head.cr8,
            apic_base: head.apic_base,
            flags: if head.state & MV_RUN_RETURN_STATE_SMM != 0 {
                KVM_RUN_X86_SMM as u16
            } else {
                0
            },
        });
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        pins::release(*self.waits_with.get_mut());
        if let (Some(door), Some(ring)) = (&self.door, &self.ring) {
            door.rings.remove(ring);
        }
    }
}

fn flags(wishes: &Wishes) -> u64 {
    let mut flags = 0;
    if wishes.immediate_exit {
        flags |= MV_RUN_FLAG_COMPLETE_ONLY;
    }
    if wishes.request_interrupt_window {
        flags |= MV_RUN_FLAG_INTERRUPT_WINDOW;
    }
    flags
}

/// The client's thread has a signal: leave the guest.
#[allow(unsafe_code, reason = "called by libfuse")]
unsafe extern "C" fn interrupted(_: Request, data: *mut c_void) {
    // SAFETY: `data` is the vCPU of the request's session, which outlives it.
    let vcpu = unsafe { &*data.cast_const().cast::<Vcpu>() };
    vcpu.signals.arrive();
}
