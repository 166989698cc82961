//! The synthetic MSRs but those of the local APIC, which [`crate::processor`] answers for.

use std::sync::atomic::Ordering;

use cpu_engine::{CpuidEntry, MsrAnswer, MsrExit, Vcpu, host_tsc, user_stores};
use cpu_paravirt::hyperv::cpuid::{self, feature};
use cpu_paravirt::hyperv::msr as number;
use cpu_paravirt::hyperv::msr::ENABLED;

use super::partition::{DebugMsrs, Shared};
use super::wish::{DebugWish, Wish};
use super::{Hyperv, Origin};
use crate::arrival;
use crate::object::local_apic::MsrRefused;
use crate::paravirt::memory::{self, Structure};

const PAGE: u64 = !0xFFF;
const RET: u8 = 0xC3;
/// Bits of HV_X64_MSR_NPIEP_CONFIG, which are those of `user_stores`.
const NPIEP_ALL: u64 =
    (user_stores::SGDT | user_stores::SIDT | user_stores::SLDT | user_stores::STR) as u64;
/// Numbers of processors are below.
const MAX_VP_INDEX: u64 = 1024;

impl Hyperv {
    /// What the guest's access gets.
    pub fn answer(&mut self, vcpu: &Vcpu, access: &MsrExit) -> MsrAnswer {
        if !self.allows(access.index) {
            return MsrAnswer::Refused;
        }
        let answer = match access.value {
            None if access.index == number::GUEST_IDLE => self.begin_idle(),
            None => self.read(vcpu, access.index, Origin::Guest),
            Some(value) => self.write(vcpu, access.index, value, Origin::Guest).map(|()| 0),
        };
        answer.map_or(MsrAnswer::Refused, MsrAnswer::Value)
    }

    /// Where the root has the local APICs nobody knows when there is an interrupt.
    fn begin_idle(&mut self) -> Result<u64, MsrRefused> {
        self.idle = self.vm.irqchip.get().is_some();
        if self.idle { Ok(0) } else { Err(MsrRefused) }
    }

    /// Reads an MSR.
    ///
    /// # Errors
    /// [`MsrRefused`]: there is none, or it cannot be read.
    pub fn read(&self, vcpu: &Vcpu, index: u32, origin: Origin) -> Result<u64, MsrRefused> {
        let mut shared = self.vm.hyperv.shared();
        Ok(match index {
            number::GUEST_OS_ID => shared.guest_os_id,
            number::HYPERCALL => shared.hypercall,
            number::VP_INDEX => self.presence.vp_index.load(Ordering::Relaxed).into(),
            number::RESET => 0,
            number::VP_RUNTIME => self.runtime.get(),
            number::TIME_REF_COUNT => {
                let now = if origin == Origin::Root { arrival::midway() } else { host_tsc() };
                shared.reference.count_at(&self.vm, vcpu, now)
            }
            number::REFERENCE_TSC => shared.reference.msr(),
            number::TSC_FREQUENCY => u64::from(vcpu.tsc_clock().khz()) * 1000,
            number::APIC_FREQUENCY => number::APIC_HZ,
            number::VP_ASSIST_PAGE => self.vp_assist_page,
            number::CRASH_P0..=number::CRASH_P4 => shared.crash[crash_place(index)],
            number::CRASH_CTL => shared.crash_ctl,
            number::REENLIGHTENMENT_CONTROL => shared.reenlightenment,
            number::TSC_EMULATION_CONTROL => shared.reference.emulation_control,
            number::TSC_EMULATION_STATUS => shared.emulation_status,
            number::NPIEP_CONFIG => self.npiep.into(),
            number::TSC_INVARIANT_CONTROL => {
                self.vm.hyperv.invariant_tsc.load(Ordering::Relaxed).into()
            }
            // Without a local APIC beside the processor no timer was ever set.
            _ if number::is_timer(index) => 0,
            _ => *self.debug_msr(&mut shared, index, origin)?,
        })
    }

    /// Writes an MSR.
    ///
    /// # Errors
    /// [`MsrRefused`]: there is none, or it cannot hold the value.
    pub fn write(
        &mut self,
        vcpu: &Vcpu,
        index: u32,
        value: u64,
        origin: Origin,
    ) -> Result<(), MsrRefused> {
        let vm = std::sync::Arc::clone(&self.vm);
        let mut shared = vm.hyperv.shared();
        match index {
            number::GUEST_OS_ID => {
                shared.guest_os_id = value;
                if value == 0 {
                    shared.hypercall &= !ENABLED;
                }
            }
            number::HYPERCALL => self.set_hypercall(&mut shared, vcpu, value, origin)?,
            number::VP_INDEX => self.set_vp_index(value, origin)?,
            number::RESET if value == 1 => self.wishes.add(Wish::Reset),
            number::RESET => {}
            number::VP_RUNTIME if origin == Origin::Root => self.runtime.set(value),
            number::TIME_REF_COUNT | number::TSC_FREQUENCY | number::APIC_FREQUENCY
                if origin == Origin::Root => {}
            number::REFERENCE_TSC => shared.reference.set_msr(&vm, value, origin),
            number::VP_ASSIST_PAGE => self.set_vp_assist_page(value)?,
            number::CRASH_P0..=number::CRASH_P4 => shared.crash[crash_place(index)] = value,
            number::CRASH_CTL if origin == Origin::Root => {
                shared.crash_ctl = value & number::CRASH_NOTIFY;
            }
            number::CRASH_CTL if value & number::CRASH_NOTIFY != 0 => {
                self.wishes.add(Wish::Crash);
            }
            number::CRASH_CTL => {}
            number::REENLIGHTENMENT_CONTROL => shared.reenlightenment = value,
            number::TSC_EMULATION_CONTROL => shared.reference.emulation_control = value,
            number::TSC_EMULATION_STATUS if origin == Origin::Root || value == 0 => {
                shared.emulation_status = value;
            }
            number::NPIEP_CONFIG if value <= NPIEP_ALL => self.npiep = value as u8,
            number::TSC_INVARIANT_CONTROL => self.show_invariant_tsc(value, origin)?,
            _ => {
                *self.debug_msr(&mut shared, index, origin)? = value;
                self.tell_debugger(&shared.debug, index, origin);
            }
        }
        Ok(())
    }

    /// The guest is given code that calls the hypervisor.
    fn set_hypercall(
        &self,
        shared: &mut Shared,
        vcpu: &Vcpu,
        value: u64,
        origin: Origin,
    ) -> Result<(), MsrRefused> {
        if origin == Origin::Guest && self.has_locked(shared) {
            return Err(MsrRefused);
        }
        if shared.guest_os_id == 0 {
            return Ok(());
        }
        if value & ENABLED != 0 {
            let [a, b, c] = vcpu.host_call();
            if !memory::copy_in(&self.vm.memory.normal, value & PAGE, &[a, b, c, RET]) {
                return Err(MsrRefused);
            }
        }
        shared.hypercall = value;
        Ok(())
    }

    fn has_locked(&self, shared: &Shared) -> bool {
        let can_lock = self.announced.features & feature::HYPERCALL_MSR_LOCK != 0;
        can_lock && shared.hypercall & number::HYPERCALL_LOCKED != 0
    }

    fn set_vp_index(&self, value: u64, origin: Origin) -> Result<(), MsrRefused> {
        let index = u64::from(value as u32);
        if origin == Origin::Guest || index >= MAX_VP_INDEX {
            return Err(MsrRefused);
        }
        self.presence.vp_index.store(index as u32, Ordering::Relaxed);
        Ok(())
    }

    /// The page's first word says that an interrupt needs no end; the rest is the guest's.
    fn set_vp_assist_page(&mut self, value: u64) -> Result<(), MsrRefused> {
        if value & ENABLED != 0 {
            let page = Structure::at(&self.vm.memory.normal, value & PAGE, size_of::<u32>());
            page.ok_or(MsrRefused)?.write(0, &0_u32.to_le_bytes());
        }
        self.vp_assist_page = value;
        Ok(())
    }

    /// The guest can have it shown, and not hidden again.
    fn show_invariant_tsc(&self, value: u64, origin: Origin) -> Result<(), MsrRefused> {
        let shown = &self.vm.hyperv.invariant_tsc;
        let hides = value == 0 && shown.load(Ordering::Relaxed);
        if value > 1 || (hides && origin == Origin::Guest) {
            return Err(MsrRefused);
        }
        shown.store(value != 0, Ordering::Relaxed);
        Ok(())
    }

    /// Those of the debugger's interface, which is there only where CPUID announces it.
    fn debug_msr<'a>(
        &self,
        shared: &'a mut Shared,
        index: u32,
        origin: Origin,
    ) -> Result<&'a mut u64, MsrRefused> {
        if origin == Origin::Guest && !self.announced.has_debugging() {
            return Err(MsrRefused);
        }
        let debug = &mut shared.debug;
        Ok(match index {
            number::SYNDBG_CONTROL => &mut debug.control,
            number::SYNDBG_STATUS => &mut debug.status,
            number::SYNDBG_SEND_BUFFER => &mut debug.send,
            number::SYNDBG_RECV_BUFFER => &mut debug.receive,
            number::SYNDBG_PENDING_BUFFER => &mut debug.pending,
            number::SYNDBG_OPTIONS => &mut debug.options,
            _ => return Err(MsrRefused),
        })
    }

    fn tell_debugger(&mut self, debug: &DebugMsrs, msr: u32, origin: Origin) {
        let tells = matches!(msr, number::SYNDBG_CONTROL | number::SYNDBG_PENDING_BUFFER);
        if tells && origin == Origin::Guest {
            self.wishes.add(Wish::Debug(DebugWish {
                msr,
                control: debug.control,
                status: debug.status,
                send_page: debug.send,
                receive_page: debug.receive,
                pending_page: debug.pending,
            }));
        }
    }
}

fn crash_place(index: u32) -> usize {
    (index - number::CRASH_P0) as usize
}

/// The leaves that guests of this host can have; with a local APIC there are more bits.
#[must_use]
pub fn supported_cpuid(local_apic: bool) -> [CpuidEntry; 10] {
    cpuid::supported(host_shares_cores(), local_apic)
}

/// Whether two threads of one core of the host can run different things, by its own words.
fn host_shares_cores() -> bool {
    let control = std::fs::read_to_string("/sys/devices/system/cpu/smt/control");
    let never = |control: &str| ["forceoff", "notsupported"].contains(&control.trim());
    !control.as_deref().is_ok_and(never)
}
