//! A hot loop with load, store, add, dec and a branch runs to its end. Prints nothing by itself;
//! `--ignored --nocapture` measures.

mod guest;

use cpu_defs::Gpr;
use guest::Guest;
use iced_x86::code_asm::*;

const DATA: u64 = 0x8000;

fn hot_loop(turns: u64) -> Guest {
    let mut guest = Guest::long_mode(|a| {
        let mut head = a.create_label();
        a.set_label(&mut head).unwrap();
        a.mov(rax, qword_ptr(rsi)).unwrap();
        a.add(rax, rdx).unwrap();
        a.mov(qword_ptr(rsi), rax).unwrap();
        a.dec(rcx).unwrap();
        a.jnz(head).unwrap();
        a.hlt().unwrap();
    });
    guest.set_gpr(Gpr::Rcx, turns);
    guest.set_gpr(Gpr::Rdx, 3);
    guest.set_gpr(Gpr::Rsi, DATA);
    guest
}

#[test]
fn the_hot_loop_computes_its_sum() {
    let mut guest = hot_loop(1_000);
    guest.run_to_hlt();
    assert_eq!(guest.read_u64(DATA), 3_000);
    assert_eq!(guest.gpr(Gpr::Rcx), 0);
}

#[test]
#[ignore = "a measurement, not a test"]
fn instructions_per_second() {
    let turns = 40_000_000;
    let mut guest = hot_loop(turns);
    let start = std::time::Instant::now();
    guest.run_to_hlt();
    let seconds = start.elapsed().as_secs_f64();
    println!("{:.0} million instructions/s", 5.0 * turns as f64 / seconds / 1e6);
    assert_eq!(guest.read_u64(DATA), 3 * turns);
}
