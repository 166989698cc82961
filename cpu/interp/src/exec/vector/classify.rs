//! What an instruction's memory operand asks for: alignment, and which bytes a mask leaves out.
//!
//! SDM volume 2, "Instruction Exception Specification": types 1 and E1 want alignment, types whose
//! name ends in NF touch memory whatever the mask.

use iced_x86::{EncodingKind, Instruction, MemorySize, Mnemonic, OpKind, Register};

use crate::native::Active;

/// Alignment of the memory operand in bytes.
pub(super) fn alignment(instruction: &Instruction) -> u8 {
    use Mnemonic as M;
    let len = instruction.memory_size().size() as u8;
    let wanted = match instruction.encoding() {
        EncodingKind::Legacy => {
            len == 16
                && !matches!(
                    instruction.mnemonic(),
                    M::Movups
                        | M::Movupd
                        | M::Movdqu
                        | M::Lddqu
                        | M::Pcmpestri
                        | M::Pcmpestri64
                        | M::Pcmpestrm
                        | M::Pcmpestrm64
                        | M::Pcmpistri
                        | M::Pcmpistrm
                )
        }
        _ => matches!(
            instruction.mnemonic(),
            M::Vmovaps
                | M::Vmovapd
                | M::Vmovdqa
                | M::Vmovdqa32
                | M::Vmovdqa64
                | M::Vmovntps
                | M::Vmovntpd
                | M::Vmovntdq
                | M::Vmovntdqa
        ),
    };
    if wanted { len.max(1) } else { 1 }
}

/// Which bytes of the memory operand are touched.
pub(super) fn active(instruction: &Instruction) -> Active {
    use Mnemonic as M;
    let memory =
        (0..instruction.op_count()).any(|number| instruction.op_kind(number) == OpKind::Memory);
    if !memory {
        return Active::All;
    }
    let element = instruction.memory_size().element_size() as u8;
    match instruction.mnemonic() {
        M::Vmaskmovps | M::Vmaskmovpd | M::Vpmaskmovd | M::Vpmaskmovq => {
            let vector = instruction.op1_register().number() as u8;
            return Active::Signs { vector, granule: element };
        }
        _ => {}
    }
    if instruction.op_mask() == Register::None {
        return Active::All;
    }
    let opmask = instruction.op_mask().number() as u8;
    match instruction.mnemonic() {
        M::Vcompressps
        | M::Vcompresspd
        | M::Vpcompressb
        | M::Vpcompressw
        | M::Vpcompressd
        | M::Vpcompressq
        | M::Vexpandps
        | M::Vexpandpd
        | M::Vpexpandb
        | M::Vpexpandw
        | M::Vpexpandd
        | M::Vpexpandq => Active::Compressed { opmask, granule: element },
        _ if instruction.is_broadcast() => {
            let bits = broadcast_bytes(instruction.memory_size()) / element.max(1);
            Active::AnyOf { opmask, bits }
        }
        // Dot products: an element of the mask is a sum, not what the decoder calls element.
        M::Vpdpbusd | M::Vpdpbusds | M::Vpdpwssd | M::Vpdpwssds | M::Vdpbf16ps => {
            Active::Mask { opmask, granule: 4 }
        }
        _ => Active::Mask { opmask, granule: element },
    }
}

/// Bytes of the vector that a broadcast element fills.
fn broadcast_bytes(size: MemorySize) -> u8 {
    match size {
        _ if size >= MemorySize::Broadcast512_Int16 => 64,
        _ if size >= MemorySize::Broadcast256_Int16 => 32,
        _ if size >= MemorySize::Broadcast128_Int16 => 16,
        _ if size >= MemorySize::Broadcast64_UInt32 => 8,
        _ => 4,
    }
}
