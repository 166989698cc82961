//! Loops of one block.
//!
//! A block that branches back to its own start is made several times over. The first turn is for who
//! comes from elsewhere: it looks for pages as any block does, and keeps in the frame what it found. Those
//! behind it compare an access that moves on with the page of the turn before, and do not look for one
//! that stays at all. The last goes back to the second, and is the one that looks at the kick word.
//!
//! The flags with which a turn ends are of no use to the next one but if it faults: where the last
//! instruction that wrote them can be executed once more, they are lost, and made again then.
//!
//! Law: what is kept is that of this loop, from its first turn on. As for groups, entries of the TLB are taken
//! away outside of translated code only, and who comes from there begins with the first turn.

use iced_x86::{Code, Encoder, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

use crate::block::{BlockMaker, Turn};
use crate::effects::{Flags, Item, Kind};
use crate::emit::GUEST_RSP;
use crate::flags::FlagState;
use crate::frame::{Place, place};
use crate::group::Habit;

/// Most instructions of a loop that is made several times over.
const LONGEST: usize = 32;
/// About so many are made behind the first turn.
const ENOUGH: usize = 16;
/// Most turns behind the first.
const MOST_TURNS: usize = 4;

/// The block at `rip` is a loop that is worth it.
pub(crate) fn is_loop(items: &[Item], rip: u64) -> bool {
    let Some(last) = items.last().filter(|_| items.len() <= LONGEST) else { return false };
    let plain = |item: &Item| {
        use Kind as K;
        let x87 = item.used.is_some_and(|used| used.x87);
        let kind = matches!(item.kind, K::Nothing | K::Copied | K::Lea | K::Push | K::Pop);
        kind && !item.crosses && !x87
    };
    last.kind == Kind::JumpIf
        && last.instruction.near_branch64() == rip
        && items[..items.len() - 1].iter().all(plain)
        && items.iter().any(Item::clobbers_flags)
}

/// The turns of a loop behind its first; whether it is the last.
pub(crate) fn turns(items: &[Item]) -> impl Iterator<Item = bool> {
    let turns = (ENOUGH / items.len().max(1)).clamp(1, MOST_TURNS);
    (1..=turns).map(move |turn| turn == turns)
}

impl BlockMaker {
    /// Before the first turn.
    pub(crate) fn plan_turns(&mut self, items: &[Item]) {
        self.second = 0;
        self.emitter.again = again(&mut self.infos, &mut self.encoder, items).unwrap_or_default();
    }

    /// Before another turn.
    pub(crate) fn begin_turn(&mut self, last: bool) {
        if self.turn == Turn::First {
            self.second = self.emitter.code.position();
        }
        self.turn = Turn::Again { last };
        for (kept, group) in self.kept.iter_mut().zip(&self.groups) {
            *kept = group.habit == Habit::Stays;
        }
    }

    /// At the end of a turn, behind the branch out of the loop: the flags are in the host's RFLAGS.
    pub(crate) fn turn(&mut self, start: u64) {
        if self.emitter.again.is_empty() {
            self.emitter.save_flags();
            self.emitter.state = FlagState::FRAME;
        } else {
            self.emitter.state = FlagState::LOST;
        }
        if self.turn == (Turn::Again { last: true }) {
            self.emitter.poll(start);
            self.emitter.code.jump_to(self.second);
        }
    }
}

/// Code that makes the flags again with which a turn ends, anywhere in the next one until something else is
/// done with flags. None: there is none.
fn again(
    infos: &mut InstructionInfoFactory,
    encoder: &mut Encoder,
    items: &[Item],
) -> Option<Vec<u8>> {
    let body = &items[..items.len().checked_sub(1)?];
    let writer = body.iter().rposition(|item| item.flags != Flags::Ignored)?;
    let until = body.iter().position(|item| item.flags != Flags::Ignored)?;
    if body[writer].flags != Flags::Replaced {
        return None;
    }
    let needed = operands(&body[writer].instruction)?;
    for item in body[writer + 1..].iter().chain(&body[..until]) {
        let info = infos.info(&item.instruction);
        let writes = |used: &iced_x86::UsedRegister| {
            use iced_x86::OpAccess as A;
            let reads = matches!(used.access(), A::None | A::Read | A::CondRead);
            !reads && needed.contains(&used.register().full_register())
        };
        if info.used_registers().iter().any(writes) {
            return None;
        }
    }
    let mut code = Vec::new();
    for mut instruction in remake(&body[writer].instruction)? {
        for operand in 0..instruction.op_count() {
            if instruction.op_kind(operand) == OpKind::Register
                && instruction.op_register(operand).full_register() == Register::RSP
            {
                return None;
            }
        }
        instruction.set_len(0);
        encoder.encode(&instruction, 0).ok()?;
        code.extend(encoder.take_buffer());
    }
    Some(code)
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
                match place(number) {
                    Place::Host(host) if host == number && host != GUEST_RSP => {}
                    _ => return None,
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
