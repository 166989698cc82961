//! Where few decoded blocks are kept, those that were dropped are decoded again, as they are then.

mod machine;

use cpu_defs::Gpr;
use iced_x86::code_asm::*;
use machine::{End, Machine, START};

/// More than are kept.
const BLOCKS: u64 = 5_000;
/// `add rax, 1; jmp` to the next.
const BLOCK: &[u8] = &[0x48, 0x83, 0xC0, 0x01, 0xEB, 0x00];

fn machine() -> Machine {
    let mut code = BLOCK.repeat(BLOCKS as usize);
    let mut again = CodeAssembler::new(64).unwrap();
    again.dec(rcx).unwrap();
    again.jne(START).unwrap();
    code.extend(again.assemble(START + code.len() as u64).unwrap());
    let mut machine = Machine::with_code(&code);
    machine.interp.keep_few_blocks();
    machine
}

fn run(machine: &mut Machine, rounds: u64) -> u64 {
    machine.interp.cpu.arch.set_rip(START);
    machine.set_gpr(Gpr::Rax, 0);
    machine.set_gpr(Gpr::Rcx, rounds);
    assert_eq!(machine.run(), End::Done);
    machine.gpr(Gpr::Rax)
}

#[test]
fn more_blocks_than_are_kept_all_execute() {
    assert_eq!(run(&mut machine(), 3), 3 * BLOCKS);
}

#[test]
fn a_block_that_was_dropped_is_decoded_as_it_is_by_then() {
    let mut machine = machine();
    assert_eq!(run(&mut machine, 1), BLOCKS);
    machine.write(START + 3, &[2]);
    machine.interp.distrust_code();
    assert_eq!(run(&mut machine, 1), BLOCKS + 1);
}
