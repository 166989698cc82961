//! What an instruction's memory operand asks for: alignment, and which bytes a mask leaves out.
//!
//! SDM volume 2, "Instruction Exception Specification": types 1 and E1 want alignment, types whose
//! name ends in NF touch memory whatever the mask.

use iced_x86::{EncodingKind, Instruction, MemorySize, Mnemonic, OpKind, Register};

use crate::native::Active;

/// Alignment of the memory operand in bytes. SHA instructions ask for none on AMD's processors.
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
                        | M::Sha1msg1
                        | M::Sha1msg2
                        | M::Sha1nexte
                        | M::Sha1rnds4
                        | M::Sha256msg1
                        | M::Sha256msg2
                        | M::Sha256rnds2
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
    let mnemonic = instruction.mnemonic();
    if touches_all(instruction) {
        return Active::All;
    }
    if instruction.is_broadcast() {
        let bits = broadcast_bytes(instruction.memory_size()) / element.max(1);
        return Active::Repeated { opmask, granule: element, bits };
    }
    if EXTRACTIONS.contains(&mnemonic) {
        return Active::Unsuppressed { opmask, granule: element };
    }
    if COMPRESSED.contains(&mnemonic) {
        return Active::Compressed { opmask, granule: element };
    }
    if REPETITIONS.contains(&mnemonic) {
        let bits = (instruction.op0_register().size() / usize::from(element.max(1))) as u8;
        return Active::Repeated { opmask, granule: element, bits };
    }
    let granule = match mnemonic {
        // An element of the mask is a product or a sum, not what the decoder calls element.
        M::Vpdpbusd | M::Vpdpbusds | M::Vpdpwssd | M::Vpdpwssds | M::Vdpbf16ps => 4,
        M::Vpmuldq | M::Vpmuludq => 8,
        _ => element,
    };
    Active::Mask { opmask, granule }
}

/// Instructions whose mask chooses elements that are adjacent in memory.
const COMPRESSED: &[Mnemonic] = &[
    Mnemonic::Vcompressps,
    Mnemonic::Vcompresspd,
    Mnemonic::Vpcompressb,
    Mnemonic::Vpcompressw,
    Mnemonic::Vpcompressd,
    Mnemonic::Vpcompressq,
    Mnemonic::Vexpandps,
    Mnemonic::Vexpandpd,
    Mnemonic::Vpexpandb,
    Mnemonic::Vpexpandw,
    Mnemonic::Vpexpandd,
    Mnemonic::Vpexpandq,
];

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

/// Extractions to memory leave out elements, but fault as if they did not.
const EXTRACTIONS: &[Mnemonic] = &[
    Mnemonic::Vextractf32x4,
    Mnemonic::Vextractf32x8,
    Mnemonic::Vextractf64x2,
    Mnemonic::Vextractf64x4,
    Mnemonic::Vextracti32x4,
    Mnemonic::Vextracti32x8,
    Mnemonic::Vextracti64x2,
    Mnemonic::Vextracti64x4,
];

/// Broadcasts that are instructions: the operand is repeated over the destination.
const REPETITIONS: &[Mnemonic] = &[
    Mnemonic::Vbroadcastf32x2,
    Mnemonic::Vbroadcastf32x4,
    Mnemonic::Vbroadcastf32x8,
    Mnemonic::Vbroadcastf64x2,
    Mnemonic::Vbroadcastf64x4,
    Mnemonic::Vbroadcasti32x2,
    Mnemonic::Vbroadcasti32x4,
    Mnemonic::Vbroadcasti32x8,
    Mnemonic::Vbroadcasti64x2,
    Mnemonic::Vbroadcasti64x4,
    Mnemonic::Vbroadcastsd,
    Mnemonic::Vbroadcastss,
    Mnemonic::Vpbroadcastb,
    Mnemonic::Vpbroadcastd,
    Mnemonic::Vpbroadcastq,
    Mnemonic::Vpbroadcastw,
];

/// Instructions that do not suppress faults: an element of the result may come from any of the
/// operand. (Types E4NF, E5NF, E6NF; found by execution where the manual is vague.)
fn touches_all(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    match instruction.mnemonic() {
        // By a count in memory, as opposed to operands in memory by an immediate count.
        M::Vpslld
        | M::Vpsllq
        | M::Vpsllw
        | M::Vpsrad
        | M::Vpsraq
        | M::Vpsraw
        | M::Vpsrld
        | M::Vpsrlq
        | M::Vpsrlw => instruction.op2_kind() == OpKind::Memory,
        mnemonic => PERMUTATIONS.contains(&mnemonic),
    }
}

/// Those whose forms all do so.
const PERMUTATIONS: &[Mnemonic] = &[
    Mnemonic::Valignd,
    Mnemonic::Valignq,
    Mnemonic::Vcvtne2ps2bf16,
    Mnemonic::Vdbpsadbw,
    Mnemonic::Vgf2p8affineinvqb,
    Mnemonic::Vgf2p8affineqb,
    Mnemonic::Vinsertf32x4,
    Mnemonic::Vinsertf32x8,
    Mnemonic::Vinsertf64x2,
    Mnemonic::Vinsertf64x4,
    Mnemonic::Vinserti32x4,
    Mnemonic::Vinserti32x8,
    Mnemonic::Vinserti64x2,
    Mnemonic::Vinserti64x4,
    Mnemonic::Vmovddup,
    Mnemonic::Vmovshdup,
    Mnemonic::Vmovsldup,
    Mnemonic::Vpackssdw,
    Mnemonic::Vpacksswb,
    Mnemonic::Vpackusdw,
    Mnemonic::Vpackuswb,
    Mnemonic::Vpalignr,
    Mnemonic::Vpconflictd,
    Mnemonic::Vpconflictq,
    Mnemonic::Vpermb,
    Mnemonic::Vpermd,
    Mnemonic::Vpermi2b,
    Mnemonic::Vpermi2d,
    Mnemonic::Vpermi2pd,
    Mnemonic::Vpermi2ps,
    Mnemonic::Vpermi2q,
    Mnemonic::Vpermi2w,
    Mnemonic::Vpermilpd,
    Mnemonic::Vpermilps,
    Mnemonic::Vpermpd,
    Mnemonic::Vpermps,
    Mnemonic::Vpermq,
    Mnemonic::Vpermt2b,
    Mnemonic::Vpermt2d,
    Mnemonic::Vpermt2pd,
    Mnemonic::Vpermt2ps,
    Mnemonic::Vpermt2q,
    Mnemonic::Vpermt2w,
    Mnemonic::Vpermw,
    Mnemonic::Vpmaddubsw,
    Mnemonic::Vpmaddwd,
    Mnemonic::Vpmultishiftqb,
    Mnemonic::Vpshufb,
    Mnemonic::Vpshufd,
    Mnemonic::Vpshufhw,
    Mnemonic::Vpshuflw,
    Mnemonic::Vpunpckhbw,
    Mnemonic::Vpunpckhdq,
    Mnemonic::Vpunpckhqdq,
    Mnemonic::Vpunpckhwd,
    Mnemonic::Vpunpcklbw,
    Mnemonic::Vpunpckldq,
    Mnemonic::Vpunpcklqdq,
    Mnemonic::Vpunpcklwd,
    Mnemonic::Vshuff32x4,
    Mnemonic::Vshuff64x2,
    Mnemonic::Vshufi32x4,
    Mnemonic::Vshufi64x2,
    Mnemonic::Vshufpd,
    Mnemonic::Vshufps,
    Mnemonic::Vunpckhpd,
    Mnemonic::Vunpckhps,
    Mnemonic::Vunpcklpd,
    Mnemonic::Vunpcklps,
];
