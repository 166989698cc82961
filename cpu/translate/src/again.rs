//! Flags that are not saved, but can be made again.
//!
//! Most flags are never looked at, or only by the branch behind them, but a fault shows them. They are in the
//! way of each look into the TLB, and saving them takes as long as the look. Where the instruction that wrote
//! them has operands that are as they were, or that can be found again, up to the next one that writes flags, it
//! is executed once more by who needs them: seldom executed code mostly. INC and DEC leave CF as it was, which
//! is put away before.

use iced_x86::{Code, Instruction, MemoryOperand, Mnemonic, OpAccess, OpKind, Register};

use crate::block::{BlockMaker, writes_flags};
use crate::effects::{Flags, Item, Kind};
use crate::emit::Emitter;
use crate::flags::FlagState;
use crate::frame::{CARRY, Place, place};

/// How flags are made again.
pub(crate) struct Again {
    /// Host code, for anywhere.
    code: Vec<u8>,
    /// It takes CF from the frame.
    carry: bool,
}

impl Emitter {
    /// The flags, which are in the host's RFLAGS, may be overwritten: number `again` makes them again.
    pub(crate) fn lose_flags(&mut self, again: u8) {
        if self.again[usize::from(again) - 1].carry {
            // setc [rsp + CARRY]
            self.code.bytes(&[0x0F, 0x92, 0x44, 0x24, CARRY as u8]);
        }
        self.state = FlagState::lost(again);
    }

    /// Makes flags again that are lost.
    pub(crate) fn make_again(&mut self) {
        if self.state.are_lost() {
            self.code.bytes(&self.again[usize::from(self.state.again) - 1].code);
            self.state = FlagState::HOST;
        }
    }

    /// CF is what it was when the flags were lost.
    fn take_carry(&mut self) {
        self.code.compare_byte(CARRY, 1);
        // cmc
        self.code.bytes(&[0xF5]);
    }
}

impl BlockMaker {
    /// Finds out which instructions' flags can be made again, and in a loop those of the last one even in the
    /// next turn.
    pub(crate) fn plan_again(&mut self, items: &[Item], repeats: bool) {
        self.emitter.again.clear();
        self.emitter.written = 0;
        self.carried = 0;
        self.again.clear();
        self.again.resize(items.len(), 0);
        let writes = |&number: &usize| writes_flags(items[number].flags);
        let writers: Vec<usize> = (0..items.len()).filter(writes).collect();
        for (order, &number) in writers.iter().enumerate() {
            let next = writers.get(order + 1).copied();
            let mut meanwhile: Vec<&Item> =
                items[number + 1..next.unwrap_or(items.len())].iter().collect();
            let mut next = next.map(|next| &items[next]);
            let carries = repeats && next.is_none();
            if carries {
                meanwhile.extend(&items[..writers[0]]);
                next = Some(&items[writers[0]]);
            }
            if !meanwhile.iter().copied().chain(next).any(Item::clobbers_flags) {
                continue;
            }
            if let Some(again) = self.make_flags(&items[number], &meanwhile) {
                self.emitter.again.push(again);
                self.again[number] = self.emitter.again.len() as u8;
            }
            if carries {
                self.carried = self.again[number];
            }
        }
    }

    /// What makes the flags of an instruction again, at any time `meanwhile`. None: there is nothing.
    fn make_flags(&mut self, writer: &Item, meanwhile: &[&Item]) -> Option<Again> {
        let carry = writer.flags == Flags::Carry { written: true };
        if !carry && writer.flags != Flags::Replaced || writer.kind != Kind::Copied {
            return None;
        }
        let needed = operands(&writer.instruction)?;
        let again = remake(&writer.instruction)?;
        for item in meanwhile {
            let written = self.infos.info(&item.instruction).used_registers().iter().any(|used| {
                let reads =
                    matches!(used.access(), OpAccess::None | OpAccess::Read | OpAccess::CondRead);
                !reads && needed.contains(&used.register().full_register())
            });
            if written {
                return None;
            }
        }
        let start = self.emitter.code.position();
        if carry {
            self.emitter.take_carry();
        }
        let encoded = again.iter().all(|instruction| self.encode(instruction));
        let code = self.emitter.code.code()[start..].to_vec();
        self.emitter.code.truncate(start);
        encoded.then_some(Again { code, carry })
    }
}

/// The registers that are operands, if all operands are registers that the host has under this name, or
/// constants.
fn operands(instruction: &Instruction) -> Option<Vec<Register>> {
    let mut registers = Vec::new();
    for operand in 0..instruction.op_count() {
        match instruction.op_kind(operand) {
            OpKind::Memory => return None,
            OpKind::Register => {
                let register = instruction.op_register(operand);
                if !register.is_gpr() {
                    return None;
                }
                let number = register.full_register().number() as u8;
                if place(number) != Place::Host(number) {
                    return None;
                }
                registers.push(register.full_register());
            }
            _ => {}
        }
    }
    Some(registers)
}

/// Instructions that make the flags of one that was executed, and leave all else as it is.
fn remake(instruction: &Instruction) -> Option<Vec<Instruction>> {
    use Mnemonic as M;
    let register =
        |n| (instruction.op_kind(n) == OpKind::Register).then(|| instruction.op_register(n));
    let to = register(0)?;
    match instruction.mnemonic() {
        M::Cmp | M::Test => Some(vec![*instruction]),
        M::And | M::Or | M::Xor => {
            let code = match to.size() {
                4 => Code::Test_rm32_r32,
                8 => Code::Test_rm64_r64,
                _ => return None,
            };
            Some(vec![Instruction::with2(code, to, to).ok()?])
        }
        M::Add | M::Sub if register(1) != Some(to) => {
            let mut back = *instruction;
            back.set_code(opposite(instruction.code())?);
            Some(vec![back, *instruction])
        }
        M::Inc | M::Dec => {
            let code = match to.size() {
                4 => Code::Lea_r32_m,
                8 => Code::Lea_r64_m,
                _ => return None,
            };
            let by = if instruction.mnemonic() == M::Inc { -1 } else { 1 };
            let before = MemoryOperand::with_base_displ(to.full_register(), by);
            Some(vec![Instruction::with2(code, to, before).ok()?, *instruction])
        }
        _ => None,
    }
}

fn opposite(code: Code) -> Option<Code> {
    const PAIRS: [(Code, Code); 10] = [
        (Code::Add_rm32_imm8, Code::Sub_rm32_imm8),
        (Code::Add_rm64_imm8, Code::Sub_rm64_imm8),
        (Code::Add_rm32_imm32, Code::Sub_rm32_imm32),
        (Code::Add_rm64_imm32, Code::Sub_rm64_imm32),
        (Code::Add_EAX_imm32, Code::Sub_EAX_imm32),
        (Code::Add_RAX_imm32, Code::Sub_RAX_imm32),
        (Code::Add_rm32_r32, Code::Sub_rm32_r32),
        (Code::Add_rm64_r64, Code::Sub_rm64_r64),
        (Code::Add_r32_rm32, Code::Sub_r32_rm32),
        (Code::Add_r64_rm64, Code::Sub_r64_rm64),
    ];
    PAIRS.iter().find_map(|&(add, sub)| match code {
        _ if code == add => Some(sub),
        _ if code == sub => Some(add),
        _ => None,
    })
}
