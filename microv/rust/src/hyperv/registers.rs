//! HvCallGetVpRegisters and HvCallSetVpRegisters: registers of the caller itself. Another processor of
//! the partition cannot be made to hold still by a guest, so it is in the wrong state.
//!
//! TLFS: values are looked at for bits that a register does not have; a state that no processor can be
//! in is not entered either. What the guest may not access as an MSR it may not here.

use std::sync::Arc;

use cpu_defs::{Reg, SegField, SegReg, TableField, cr0, find_cpuid, rflags};
use cpu_engine::Vcpu;
use cpu_paravirt::hyperv::hypercall::Status;
use cpu_paravirt::hyperv::register::Register;
use cpu_paravirt::hyperv::vp_context::{segment_of, table_of};

use super::block::List;
use super::hypercall::{Caller, Done};
use super::who::{u32_at, u64_at};
use super::{Hyperv, Origin};

/// Partition, processor and virtual trust level, then names, for values.
const GET: List = List { head: 16, element: 4, answer: 16 };
/// The same, then names and values, a value 16 bytes behind its name.
const SET: List = List { head: 16, element: 32, answer: 0 };
const VALUE: usize = 16;

impl Hyperv {
    /// HvCallGetVpRegisters.
    pub(super) fn get_registers(&mut self, vcpu: &mut Vcpu, caller: &Caller) -> Done {
        self.for_each(vcpu, caller, GET, Hyperv::check_registers, |own, vcpu, element| {
            let register = Register::named(u32_at(element, 0)).ok_or(Status::InvalidParameter)?;
            own.check_access(vcpu, register, false)?;
            own.register(vcpu, register)
        })
    }

    /// HvCallSetVpRegisters.
    pub(super) fn set_registers(&mut self, vcpu: &mut Vcpu, caller: &Caller) -> Done {
        self.for_each(vcpu, caller, SET, Hyperv::check_registers, |own, vcpu, element| {
            let register = Register::named(u32_at(element, 0)).ok_or(Status::InvalidParameter)?;
            if register.is_read_only() || element[4..VALUE] != [0; 12] {
                return Err(Status::InvalidParameter);
            }
            own.check_access(vcpu, register, true)?;
            let mut value = [0; 16];
            value.copy_from_slice(&element[VALUE..]);
            own.set_register(vcpu, register, &value).map(|()| value)
        })
    }

    fn check_registers(&self, head: &[u8]) -> Result<(), Status> {
        self.check_partition(head)?;
        let processor = self.processor_of(head)?;
        Hyperv::check_input_level(head)?;
        match Arc::ptr_eq(&processor, &self.presence) {
            true => Ok(()),
            false => Err(Status::InvalidVpState),
        }
    }

    /// The guest may do nothing that it could not do with the MSR.
    fn check_access(&self, vcpu: &Vcpu, register: Register, write: bool) -> Result<(), Status> {
        let Some(index) = register.msr() else { return Ok(()) };
        let announced = !matches!(register, Register::Synthetic(_)) || self.allows(index);
        match announced && vcpu.filter_allows(index, write) {
            true => Ok(()),
            false => Err(Status::AccessDenied),
        }
    }

    fn register(&self, vcpu: &Vcpu, register: Register) -> Result<[u8; 16], Status> {
        let word = |value: u64| u128::from(value).to_le_bytes();
        Ok(match register {
            Register::Word(reg) => word(vcpu.reg(reg)),
            Register::Segment(segment) => segment_bytes(vcpu, segment),
            Register::Gdtr => table_bytes(vcpu, Reg::Gdtr),
            Register::Idtr => table_bytes(vcpu, Reg::Idtr),
            Register::Xmm(number) => low(&vcpu.fpu().zmm[usize::from(number)]),
            Register::Msr(index) => word(vcpu.msr(index).map_err(|_| Status::InvalidParameter)?),
            Register::Synthetic(index) => {
                word(self.read(vcpu, index, Origin::Guest).map_err(|_| Status::InvalidParameter)?)
            }
            Register::Leaf(leaf) => {
                let entry = find_cpuid(vcpu.cpuid(), leaf, 0).copied().unwrap_or_default();
                let words = [entry.eax, entry.ebx, entry.ecx, entry.edx].map(u128::from);
                let [eax, ebx, ecx, edx] = words;
                (eax | ebx << 32 | ecx << 64 | edx << 96).to_le_bytes()
            }
        })
    }

    fn set_register(
        &mut self,
        vcpu: &mut Vcpu,
        register: Register,
        value: &[u8; 16],
    ) -> Result<(), Status> {
        let word = || match u64_at(value, 8) {
            0 => Ok(u64_at(value, 0)),
            _ => Err(Status::InvalidRegisterValue),
        };
        match register {
            Register::Word(reg) => set_all(vcpu, &[(reg, word()?)]),
            Register::Segment(segment) => set_all(vcpu, &segment_of(segment, value)),
            Register::Gdtr => set_all(vcpu, &table_of(Reg::Gdtr, value)),
            Register::Idtr => set_all(vcpu, &table_of(Reg::Idtr, value)),
            Register::Xmm(number) => {
                vcpu.fpu_mut().zmm[usize::from(number)][..16].copy_from_slice(value);
                Ok(())
            }
            Register::Msr(index) => set_msr(vcpu, index, word()?),
            Register::Synthetic(index) => {
                let written = self.write(vcpu, index, word()?, Origin::Guest);
                written.map_err(|_| Status::InvalidRegisterValue)
            }
            Register::Leaf(_) => Err(Status::InvalidParameter),
        }
    }
}

/// Sets registers that make one, or none of them.
fn set_all(vcpu: &mut Vcpu, values: &[(Reg, u64)]) -> Result<(), Status> {
    if !values.iter().all(|&(reg, value)| is_sound(vcpu, reg, value)) {
        return Err(Status::InvalidRegisterValue);
    }
    let old: Vec<_> = values.iter().map(|&(reg, _)| (reg, vcpu.reg(reg))).collect();
    put_all(vcpu, values);
    if vcpu.check_entry().is_err() {
        put_all(vcpu, &old);
        return Err(Status::InvalidRegisterValue);
    }
    Ok(())
}

/// Whether a register can have a value, and no bit of it is undefined.
pub fn is_sound(vcpu: &Vcpu, reg: Reg, value: u64) -> bool {
    let undefined = match reg {
        Reg::Cr0 => !cr0::DEFINED,
        Reg::Rflags => !rflags::DEFINED,
        _ => 0,
    };
    value & undefined == 0 && vcpu.takes(reg, value)
}

fn put_all(vcpu: &mut Vcpu, values: &[(Reg, u64)]) {
    for &(reg, value) in values {
        let taken = vcpu.set_reg(reg, value);
        debug_assert!(taken.is_ok());
    }
}

fn set_msr(vcpu: &mut Vcpu, index: u32, value: u64) -> Result<(), Status> {
    let old = vcpu.msr(index).map_err(|_| Status::InvalidParameter)?;
    vcpu.set_msr(index, value).map_err(|_| Status::InvalidRegisterValue)?;
    if vcpu.check_entry().is_err() {
        // It was there before.
        let taken = vcpu.set_msr(index, old);
        debug_assert!(taken.is_ok());
        return Err(Status::InvalidRegisterValue);
    }
    Ok(())
}

fn segment_bytes(vcpu: &Vcpu, segment: SegReg) -> [u8; 16] {
    let part = |part| u128::from(vcpu.reg(Reg::Segment(segment, part)));
    let rights = u128::from(part(SegField::Attrib) as u16);
    let upper = part(SegField::Limit) | part(SegField::Selector) << 32 | rights << 48;
    (part(SegField::Base) | upper << 64).to_le_bytes()
}

fn table_bytes(vcpu: &Vcpu, table: impl Fn(TableField) -> Reg) -> [u8; 16] {
    let part = |part| u128::from(vcpu.reg(table(part)));
    (part(TableField::Limit) << 48 | part(TableField::Base) << 64).to_le_bytes()
}

fn low(register: &[u8; 64]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&register[..16]);
    bytes
}
