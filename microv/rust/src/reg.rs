//! From mv_reg_t to the processor's registers.

use cpu_defs::{Gpr, Reg, SegField, SegReg, TableField};

use crate::abi::reg as abi;

/// General-purpose registers in the order of mv_reg_t, from rax on.
const GPRS: [Gpr; 16] = [
    Gpr::Rax,
    Gpr::Rbx,
    Gpr::Rcx,
    Gpr::Rdx,
    Gpr::Rbp,
    Gpr::Rsi,
    Gpr::Rdi,
    Gpr::R8,
    Gpr::R9,
    Gpr::R10,
    Gpr::R11,
    Gpr::R12,
    Gpr::R13,
    Gpr::R14,
    Gpr::R15,
    Gpr::Rsp,
];

/// Fields of a segment register in the order of mv_reg_t.
const FIELDS: [SegField; 4] =
    [SegField::Selector, SegField::Attrib, SegField::Limit, SegField::Base];

/// The register with this number (mv_reg_t); `None` where the number is unsupported or out of range.
pub fn register(number: u64) -> Option<Reg> {
    Some(match number {
        abi::mv_reg_t_rax..=abi::mv_reg_t_rsp => {
            Reg::Gpr(GPRS[(number - abi::mv_reg_t_rax) as usize])
        }
        abi::mv_reg_t_rip => Reg::Rip,
        abi::mv_reg_t_rflags => Reg::Rflags,
        abi::mv_reg_t_es_selector..=abi::mv_reg_t_tr_base => {
            // The list has them in their order in ModRM, then LDTR and TR.
            let place = (number - abi::mv_reg_t_es_selector) as usize;
            Reg::Segment(SegReg::ALL[place / FIELDS.len()], FIELDS[place % FIELDS.len()])
        }
        abi::mv_reg_t_gdtr_limit => Reg::Gdtr(TableField::Limit),
        abi::mv_reg_t_gdtr_base => Reg::Gdtr(TableField::Base),
        abi::mv_reg_t_idtr_limit => Reg::Idtr(TableField::Limit),
        abi::mv_reg_t_idtr_base => Reg::Idtr(TableField::Base),
        abi::mv_reg_t_dr0 => Reg::Dr0,
        abi::mv_reg_t_dr1 => Reg::Dr1,
        abi::mv_reg_t_dr2 => Reg::Dr2,
        abi::mv_reg_t_dr3 => Reg::Dr3,
        abi::mv_reg_t_dr6 => Reg::Dr6,
        abi::mv_reg_t_dr7 => Reg::Dr7,
        abi::mv_reg_t_cr0 => Reg::Cr0,
        abi::mv_reg_t_cr2 => Reg::Cr2,
        abi::mv_reg_t_cr3 => Reg::Cr3,
        abi::mv_reg_t_cr4 => Reg::Cr4,
        abi::mv_reg_t_cr8 => Reg::Cr8,
        abi::mv_reg_t_xcr0 => Reg::Xcr0,
        abi::mv_reg_t_pdpte0..=abi::mv_reg_t_pdpte3 => {
            Reg::Pdpte((number - abi::mv_reg_t_pdpte0) as u8)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its name in the table, so that neither the order of numbers nor of registers is presumed.
    fn by_name(name: &str) -> Option<Reg> {
        let row = abi::TABLE.iter().find(|(row, _)| *row == format!("mv_reg_t_{name}"));
        register(row.unwrap().1)
    }

    #[test]
    fn names_mean_their_registers() {
        assert_eq!(by_name("rbx"), Some(Reg::Gpr(Gpr::Rbx)));
        assert_eq!(by_name("r15"), Some(Reg::Gpr(Gpr::R15)));
        assert_eq!(by_name("rsp"), Some(Reg::Gpr(Gpr::Rsp)));
        assert_eq!(by_name("es_selector"), Some(Reg::Segment(SegReg::Es, SegField::Selector)));
        assert_eq!(by_name("cs_attrib"), Some(Reg::Segment(SegReg::Cs, SegField::Attrib)));
        assert_eq!(by_name("gs_limit"), Some(Reg::Segment(SegReg::Gs, SegField::Limit)));
        assert_eq!(by_name("tr_base"), Some(Reg::Segment(SegReg::Tr, SegField::Base)));
        assert_eq!(by_name("idtr_limit"), Some(Reg::Idtr(TableField::Limit)));
    }

    #[test]
    fn unsupported_numbers_mean_nothing() {
        let names = ["unsupported", "gdtr_selector", "gdtr_attrib", "idtr_selector", "idtr_attrib"];
        for name in names.into_iter().chain(["virtual_interrupt_a", "invalid"]) {
            assert_eq!(by_name(name), None, "{name}");
        }
        assert_eq!(register(u64::MAX), None);
    }

    #[test]
    fn all_other_numbers_mean_different_registers() {
        let registers: std::collections::HashSet<_> =
            (0..abi::mv_reg_t_invalid).filter_map(register).collect();
        assert_eq!(registers.len(), abi::mv_reg_t_invalid as usize - 6);
    }
}
