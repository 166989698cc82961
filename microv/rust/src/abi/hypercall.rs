//! RAX on entry: signature 63:48, flags 47:32, opcode 31:16, index 15:0.
//! MicroV Hypercall Specification, "Hypercall Inputs" and "Specification IDs".
#![allow(missing_docs, reason = "the names are the specification's")]

super::define::constants! {
    MV_HYPERCALL_SIG_VAL = 0x764D_0000_0000_0000;
    MV_HYPERCALL_SIG_MASK = 0xFFFF_0000_0000_0000;
    MV_HYPERCALL_FLAGS_MASK = 0x0000_FFFF_0000_0000;
    MV_HYPERCALL_OPCODE_MASK = 0xFFFF_0000_FFFF_0000;
    MV_HYPERCALL_OPCODE_NOSIG_MASK = 0x0000_0000_FFFF_0000;
    MV_HYPERCALL_INDEX_MASK = 0x0000_0000_0000_FFFF;

    /// Software-controlled continuation. Defined, not offered: a call with it is unsupported.
    MV_HYPERCALL_FLAGS_SCC = 0x0000_0001_0000_0000;

    MV_ID_OP_VAL = 0x764D_0000_0000_0000;
    MV_HANDLE_OP_VAL = 0x764D_0000_0001_0000;
    MV_DEBUG_OP_VAL = 0x764D_0000_0002_0000;
    MV_PP_OP_VAL = 0x764D_0000_0003_0000;
    MV_VM_OP_VAL = 0x764D_0000_0004_0000;
    MV_VP_OP_VAL = 0x764D_0000_0005_0000;
    MV_VS_OP_VAL = 0x764D_0000_0006_0000;

    MV_ID_OP_NOSIG_VAL = 0x0_0000;
    MV_HANDLE_OP_NOSIG_VAL = 0x1_0000;
    MV_DEBUG_OP_NOSIG_VAL = 0x2_0000;
    MV_PP_OP_NOSIG_VAL = 0x3_0000;
    MV_VM_OP_NOSIG_VAL = 0x4_0000;
    MV_VP_OP_NOSIG_VAL = 0x5_0000;
    MV_VS_OP_NOSIG_VAL = 0x6_0000;

    /// "Mv#1".
    MV_SPEC_ID1_VAL = 0x3123_764D;
    /// Bit n of the version bitmap: specification n is accepted.
    MV_SPEC_ID1_MASK = 0x2;
    MV_ALL_SPECS_SUPPORTED_VAL = 0x2;
    MV_INVALID_VERSION = 0x8000_0000;
    MV_INVALID_HANDLE = 0xFFFF_FFFF_FFFF_FFFF;
}
