//! BT, BTS, BTR and BTC of a bit in memory that a register names: it may lie far from the operand's
//! address.
//!
//! SDM volume 2, "BT - Bit Test": the number is signed. Of the status flags only CF is written.

use iced_x86::{Instruction, Mnemonic, OpKind};

use crate::assemble::{R10, R11};
use crate::block::BlockMaker;
use crate::callout::SiteAddress;
use crate::effects::{Item, operand_len};
use crate::flags::FlagState;

/// What happens to a bit, and the length of the words that it is in: 4 or 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FarBit {
    /// The opcode behind 0F.
    opcode: u8,
    pub len: usize,
}

const BT: u8 = 0xA3;

/// A register names a bit in memory.
pub(crate) fn is_far(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    let tests = matches!(instruction.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc);
    tests && instruction.op0_kind() == OpKind::Memory && instruction.op1_kind() == OpKind::Register
}

/// What an instruction does to such a bit.
pub(crate) fn far_bit(instruction: &Instruction) -> Option<FarBit> {
    let opcode = match instruction.mnemonic() {
        Mnemonic::Bt => BT,
        Mnemonic::Bts => 0xAB,
        Mnemonic::Btr => 0xB3,
        Mnemonic::Btc => 0xBB,
        _ => return None,
    };
    let far =
        instruction.op0_kind() == OpKind::Memory && instruction.op1_kind() == OpKind::Register;
    let len = operand_len(instruction);
    (far && len > 2).then_some(FarBit { opcode, len })
}

impl FarBit {
    pub(crate) fn writes(self) -> bool {
        self.opcode != BT
    }

    /// Log2 of the bits of a word.
    pub(crate) fn shift(self) -> u8 {
        (8 * self.len).trailing_zeros() as u8
    }

    fn is_wide(self) -> bool {
        self.len == 8
    }
}

impl BlockMaker {
    pub(crate) fn far_bit(&mut self, item: &Item, site: SiteAddress, bit: FarBit) {
        let instruction = &item.instruction;
        let number = instruction.op1_register().number() as u8;
        self.emitter.save_flags();
        self.emitter.state = FlagState::FRAME;
        self.emitter.offset(&item.op, instruction);
        let index = self.emitter.register(number, R11);
        let code = &mut self.emitter.code;
        code.mov_extended(R11, index, bit.is_wide());
        code.shift_right_signed(R11, bit.shift());
        code.lea(R10, R10, Some((R11, bit.len.trailing_zeros() as u8)), 0);
        self.emitter.segment(instruction);
        let split = match item.is_locked() {
            true => self.emitter.check_line(bit.len),
            false => None,
        };
        let unknown = self.emitter.translate(bit.len, bit.writes(), false);
        if bit.writes() {
            self.emitter.code.add(R11, R10);
            let index = self.emitter.register(number, R10);
            let code = &mut self.emitter.code;
            code.mov(R10, index);
            code.and(R10, 8 * bit.len as u32 - 1);
            code.change_bit(bit.opcode, bit.is_wide(), item.is_locked());
        } else {
            self.emitter.code.load_sized_to_r10(bit.len);
            let index = self.emitter.register(number, R11);
            self.emitter.code.test_bit(index, bit.is_wide());
        }
        self.emitter.put_carry();
        for missed in split.into_iter().chain([unknown]) {
            self.slow(missed, site, item.last);
        }
    }
}
