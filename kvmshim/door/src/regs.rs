//! KVM_GET_REGS and KVM_SET_REGS: general registers, RIP, RFLAGS.
//!
//! VMMs make these two at many exits, so they are answered beside KVM_RUN, without the interpreter.
//! `Documentation/virt/kvm/api.rst`, KVM_GET_REGS.

use std::mem::{offset_of, size_of};

use kvm_bindings::kvm_regs;
use microv::abi::hypercall::MV_VS_OP_VAL;
use microv::abi::index::{MV_VS_OP_REG_GET_LIST_IDX_VAL, MV_VS_OP_REG_SET_LIST_IDX_VAL};
use microv::abi::list::{mv_rdl_entry_t, mv_rdl_t};
use microv::abi::reg;
use microv::abi::status::MV_STATUS_SUCCESS;

use crate::root_page::{RootPage, call, with_page};

/// The call failed: the VS is not there.
#[derive(Debug)]
pub struct Gone;

const ENTRIES: usize = offset_of!(mv_rdl_t, entries);

/// `struct kvm_regs`: a value for each of [`NUMBERS`].
pub type Values = [u64; NUMBERS.len()];

macro_rules! registers {
    ($($field:ident = $number:ident),* $(,)?) => {
        /// Numbers of the registers, in the order of `struct kvm_regs`.
        const NUMBERS: [u64; [$(reg::$number),*].len()] = [$(reg::$number),*];

        // Nothing else is in it.
        const _: () = {
            let offsets = [$(offset_of!(kvm_regs, $field)),*];
            let mut number = 0;
            while number < offsets.len() {
                assert!(offsets[number] == number * size_of::<u64>());
                number += 1;
            }
            assert!(size_of::<Values>() == size_of::<kvm_regs>());
        };
    };
}
registers!(
    rax = mv_reg_t_rax,
    rbx = mv_reg_t_rbx,
    rcx = mv_reg_t_rcx,
    rdx = mv_reg_t_rdx,
    rsi = mv_reg_t_rsi,
    rdi = mv_reg_t_rdi,
    rsp = mv_reg_t_rsp,
    rbp = mv_reg_t_rbp,
    r8 = mv_reg_t_r8,
    r9 = mv_reg_t_r9,
    r10 = mv_reg_t_r10,
    r11 = mv_reg_t_r11,
    r12 = mv_reg_t_r12,
    r13 = mv_reg_t_r13,
    r14 = mv_reg_t_r14,
    r15 = mv_reg_t_r15,
    rip = mv_reg_t_rip,
    rflags = mv_reg_t_rflags,
);

/// The registers of a VS.
///
/// # Errors
/// [`Gone`].
pub fn get(vsid: u16) -> Result<Values, Gone> {
    with_page(|page| {
        fill(page, &[0; NUMBERS.len()]);
        list_call(MV_VS_OP_REG_GET_LIST_IDX_VAL, vsid)?;
        Ok(std::array::from_fn(|number| page.get::<mv_rdl_entry_t>(entry(number)).val))
    })
}

/// Sets the registers of a VS. Any values are taken; bit 1 of RFLAGS is always set, as in hardware. A
/// pending exception is dropped: the registers that it belonged to are gone.
///
/// # Errors
/// [`Gone`].
pub fn set(vsid: u16, values: &Values) -> Result<(), Gone> {
    with_page(|page| {
        fill(page, values);
        list_call(MV_VS_OP_REG_SET_LIST_IDX_VAL, vsid)
    })
}

const fn entry(number: usize) -> usize {
    ENTRIES + number * size_of::<mv_rdl_entry_t>()
}

fn fill(page: &RootPage, values: &Values) {
    page.put(offset_of!(mv_rdl_t, reg), &[0_u64; 8]);
    page.put(offset_of!(mv_rdl_t, num_entries), &(NUMBERS.len() as u64));
    for (number, (&reg, &val)) in NUMBERS.iter().zip(values).enumerate() {
        page.put(entry(number), &mv_rdl_entry_t { reg, val });
    }
}

fn list_call(index: u64, vsid: u16) -> Result<(), Gone> {
    let (status, _) = call(MV_VS_OP_VAL, index, vsid.into(), 0);
    if status == MV_STATUS_SUCCESS { Ok(()) } else { Err(Gone) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_vs_has_no_registers() {
        assert!(get(u16::MAX).is_err());
        assert!(set(u16::MAX, &[0; NUMBERS.len()]).is_err());
    }
}
