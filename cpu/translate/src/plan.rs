//! Which host registers stand for the guest registers of a copied instruction.

use iced_x86::{Code, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use crate::assemble::{R10, R11};
use crate::effects::Item;
use crate::emit::{GUEST_RSP, HostAddress};
use crate::frame::{Place, place};

/// A guest register in the frame that an instruction uses.
#[derive(Clone, Copy)]
pub(crate) struct Spill {
    pub scratch: u8,
    pub at: i32,
    pub written: bool,
}

/// Which registers stand for those of an instruction.
pub(crate) struct Plan {
    pub spills: Vec<Spill>,
    numbers: Vec<u8>,
}

impl Plan {
    /// None: there are not enough registers.
    pub(crate) fn of(infos: &mut InstructionInfoFactory, item: &Item) -> Option<Plan> {
        let mut plan = Plan { spills: Vec::new(), numbers: Vec::new() };
        let instruction = &item.instruction;
        let free: &[u8] = if item.has_memory() { &[R10] } else { &[R10, R11] };
        for operand in 0..instruction.op_count() {
            if !is_gpr(instruction, operand) {
                continue;
            }
            let number = gpr_number(instruction.op_register(operand));
            let Place::Frame(at) = place(number) else { continue };
            let access = infos.info(instruction).op_access(operand);
            let written = !matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::None);
            if let Some(known) = plan.numbers.iter().position(|&known| known == number) {
                plan.spills[known].written |= written;
                continue;
            }
            let scratch = *free.get(plan.spills.len())?;
            plan.numbers.push(number);
            plan.spills.push(Spill { scratch, at, written });
        }
        // Restoring the flags takes R10 before the registers are loaded.
        Some(plan)
    }

    /// The instruction with our registers and address; None if it is the same.
    pub(crate) fn rewrite(&self, item: &Item, memory: Option<HostAddress>) -> Option<Instruction> {
        // Prefixes that mean nothing to an older instruction mean another one to the host.
        let prefixed =
            matches!(item.instruction.mnemonic(), Mnemonic::Bsf | Mnemonic::Bsr | Mnemonic::Mfence);
        let mut changed = prefixed || item.used.is_some();
        let mut instruction = item.instruction;
        instruction.set_code(plain(instruction.code()));
        for operand in 0..instruction.op_count() {
            if !is_gpr(&instruction, operand) {
                continue;
            }
            let register = instruction.op_register(operand);
            let number = gpr_number(register);
            let host = match self.numbers.iter().position(|&known| known == number) {
                Some(known) => self.spills[known].scratch,
                None if number == 4 => GUEST_RSP,
                None => continue,
            };
            instruction.set_op_register(operand, sized(register, host));
            changed = true;
        }
        if item.used.is_some() {
            instruction.set_has_repne_prefix(false);
            instruction.set_has_rep_prefix(false);
            instruction.set_segment_prefix(Register::None);
        }
        if let Some(memory) = memory {
            instruction.set_segment_prefix(Register::None);
            let (base, index, displacement) = match memory {
                HostAddress::Pair => (Register::R11, Register::R10, 0),
                HostAddress::Single => (Register::R11, Register::None, 0),
                HostAddress::At(disp) => (Register::R11, Register::None, i64::from(disp) as u64),
                HostAddress::Register(host) => {
                    let base = Register::RAX + u32::from(host);
                    (base, Register::R11, instruction.memory_displacement64())
                }
            };
            instruction.set_memory_base(base);
            instruction.set_memory_index(index);
            instruction.set_memory_index_scale(1);
            instruction.set_memory_displacement64(displacement);
            instruction.set_memory_displ_size((displacement != 0).into());
            // XACQUIRE and XRELEASE: a hint that the host is not to take.
            instruction.set_has_repne_prefix(false);
            instruction.set_has_rep_prefix(false);
            changed = true;
        }
        changed.then_some(instruction)
    }
}

/// The code that does the same with an operand in memory that we address, and without a hint for the
/// cache: what is stored past the caches is not in program order.
fn plain(code: Code) -> Code {
    match code {
        Code::Mov_AL_moffs8 => Code::Mov_r8_rm8,
        Code::Mov_AX_moffs16 => Code::Mov_r16_rm16,
        Code::Mov_EAX_moffs32 => Code::Mov_r32_rm32,
        Code::Mov_RAX_moffs64 => Code::Mov_r64_rm64,
        Code::Mov_moffs8_AL => Code::Mov_rm8_r8,
        Code::Mov_moffs16_AX => Code::Mov_rm16_r16,
        Code::Mov_moffs32_EAX | Code::Movnti_m32_r32 => Code::Mov_rm32_r32,
        Code::Mov_moffs64_RAX | Code::Movnti_m64_r64 => Code::Mov_rm64_r64,
        Code::Movntq_m64_mm => Code::Movq_mmm64_mm,
        Code::Movntps_m128_xmm => Code::Movaps_xmmm128_xmm,
        Code::Movntpd_m128_xmm => Code::Movapd_xmmm128_xmm,
        Code::Movntdq_m128_xmm => Code::Movdqa_xmmm128_xmm,
        Code::VEX_Vmovntps_m128_xmm => Code::VEX_Vmovaps_xmmm128_xmm,
        Code::VEX_Vmovntpd_m128_xmm => Code::VEX_Vmovapd_xmmm128_xmm,
        Code::VEX_Vmovntdq_m128_xmm => Code::VEX_Vmovdqa_xmmm128_xmm,
        Code::VEX_Vmovntps_m256_ymm => Code::VEX_Vmovaps_ymmm256_ymm,
        Code::VEX_Vmovntpd_m256_ymm => Code::VEX_Vmovapd_ymmm256_ymm,
        Code::VEX_Vmovntdq_m256_ymm => Code::VEX_Vmovdqa_ymmm256_ymm,
        Code::EVEX_Vmovntps_m128_xmm => Code::EVEX_Vmovaps_xmmm128_k1z_xmm,
        Code::EVEX_Vmovntpd_m128_xmm => Code::EVEX_Vmovapd_xmmm128_k1z_xmm,
        Code::EVEX_Vmovntdq_m128_xmm => Code::EVEX_Vmovdqa64_xmmm128_k1z_xmm,
        Code::EVEX_Vmovntps_m256_ymm => Code::EVEX_Vmovaps_ymmm256_k1z_ymm,
        Code::EVEX_Vmovntpd_m256_ymm => Code::EVEX_Vmovapd_ymmm256_k1z_ymm,
        Code::EVEX_Vmovntdq_m256_ymm => Code::EVEX_Vmovdqa64_ymmm256_k1z_ymm,
        Code::EVEX_Vmovntps_m512_zmm => Code::EVEX_Vmovaps_zmmm512_k1z_zmm,
        Code::EVEX_Vmovntpd_m512_zmm => Code::EVEX_Vmovapd_zmmm512_k1z_zmm,
        Code::EVEX_Vmovntdq_m512_zmm => Code::EVEX_Vmovdqa64_zmmm512_k1z_zmm,
        other => other,
    }
}

fn is_gpr(instruction: &Instruction, operand: u32) -> bool {
    instruction.op_kind(operand) == OpKind::Register && instruction.op_register(operand).is_gpr()
}

/// The number of the whole register: that of RAX for AH.
fn gpr_number(register: Register) -> u8 {
    register.full_register().number() as u8
}

/// The part of the host's register that `like` is of its own.
fn sized(like: Register, host: u8) -> Register {
    let first = match like.size() {
        1 => return BYTES[usize::from(host & 15)],
        2 => Register::AX,
        4 => Register::EAX,
        _ => Register::RAX,
    };
    first + u32::from(host)
}

/// Low bytes by number.
const BYTES: [Register; 16] = [
    Register::AL,
    Register::CL,
    Register::DL,
    Register::BL,
    Register::SPL,
    Register::BPL,
    Register::SIL,
    Register::DIL,
    Register::R8L,
    Register::R9L,
    Register::R10L,
    Register::R11L,
    Register::R12L,
    Register::R13L,
    Register::R14L,
    Register::R15L,
];
