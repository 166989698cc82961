//! Memory ordering between processors, and between a processor and a thread of the VMM: the litmus
//! tests of "Memory Ordering" in the SDM, volume 3, and those of a pair of locks.
//!
//! Threads go through the same rounds, each round with variables of its own that are zero, and begin
//! each together. What the manual forbids may not be seen once. `LITMUS_LAPS` makes it a soak.

mod guest;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use cpu_engine::{Exit, Kick, TscClock, Vcpu, supported_cpuid};
use cpu_mem::PhysMap;
use guest::Guest;
use iced_x86::code_asm::*;

/// Where variables begin, and a round's: lines of 64 bytes.
const VARIABLES: u64 = 0x2_0000;
const ROUND: u64 = 8 * 64;
const ROUNDS: u64 = 1500;

const X: i32 = 0;
const Y: i32 = 64;
/// How many have come to the round.
const GATE: i32 = 128;
/// First line of results, of which each thread has one, with two numbers.
const RESULTS: i32 = 192;

type Results = [[u32; 2]; 4];

/// What a processor does with the variables at EBX, leaving its results in EAX and ECX.
type Program = fn(&mut CodeAssembler);

fn store(a: &mut CodeAssembler, variable: i32, value: u32) {
    a.mov(dword_ptr(ebx + variable), value).unwrap();
}

fn load(a: &mut CodeAssembler, into: AsmRegister32, variable: i32) {
    a.mov(into, dword_ptr(ebx + variable)).unwrap();
}

/// A processor's rounds; ESI counts them. `threads` meet before each where `together`.
fn rounds(a: &mut CodeAssembler, number: i32, program: Program, threads: u32, together: bool) {
    a.mov(ebx, VARIABLES as u32).unwrap();
    a.mov(esi, ROUNDS as u32).unwrap();
    let (mut head, mut wait, mut open) = (a.create_label(), a.create_label(), a.create_label());
    a.set_label(&mut head).unwrap();
    if together {
        a.lock().inc(dword_ptr(ebx + GATE)).unwrap();
        a.set_label(&mut wait).unwrap();
        a.cmp(dword_ptr(ebx + GATE), threads).unwrap();
        a.jae(open).unwrap();
        a.pause().unwrap();
        a.jmp(wait).unwrap();
        a.set_label(&mut open).unwrap();
    }
    a.xor(eax, eax).unwrap();
    a.xor(ecx, ecx).unwrap();
    program(a);
    let result = RESULTS + 64 * number;
    a.mov(dword_ptr(ebx + result), eax).unwrap();
    a.mov(dword_ptr(ebx + result + 4), ecx).unwrap();
    a.add(ebx, ROUND as u32).unwrap();
    a.dec(esi).unwrap();
    a.jnz(head).unwrap();
    a.hlt().unwrap();
}

/// Runs the programs against each other and against `vmm`, a thread that is the last of them, and asks
/// `forbidden` of each round's results.
fn litmus(
    programs: &[Program],
    vmm: Option<fn(&Cell<'_>) -> [u32; 2]>,
    together: bool,
    forbidden: fn(&Results) -> bool,
) {
    let laps = std::env::var("LITMUS_LAPS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let threads = (programs.len() + usize::from(vmm.is_some())) as u32;
    for _ in 0..laps {
        let first = Guest::protected_mode(|a| rounds(a, 0, programs[0], threads, together));
        let mut vcpus: Vec<Vcpu> = (1..programs.len())
            .map(|number| {
                let program = programs[number];
                let code =
                    |a: &mut CodeAssembler| rounds(a, number as i32, program, threads, together);
                twin(&first, guest::START + 0x1000 * number as u64, code)
            })
            .collect();
        let map = Arc::clone(&first.map);
        vcpus.push(first.vcpu);
        std::thread::scope(|scope| {
            for vcpu in &mut vcpus {
                scope.spawn(move || assert_eq!(vcpu.run(false), Exit::Hlt));
            }
            if let Some(vmm) = vmm {
                vmm_rounds(&map, vmm, threads);
            }
        });
        for round in 0..ROUNDS {
            let results = Cell { map: &map, round }.results();
            assert!(!forbidden(&results), "round {round}: {results:?}");
        }
    }
}

/// A processor in the state of another, with code of its own.
fn twin(guest: &Guest, address: u64, code: impl FnOnce(&mut CodeAssembler)) -> Vcpu {
    for (at, byte) in (address..).zip(guest::assemble(32, address, code)) {
        guest.map.page(at).expect("RAM").store(at as usize % 4096, byte);
    }
    let clock = TscClock::new(1_000_000);
    let mut twin = Vcpu::new(guest.map.clone(), Arc::new(Kick::new()), supported_cpuid(), clock);
    for reg in guest::state_registers() {
        twin.set_reg(reg, guest.vcpu.reg(reg)).expect("a value that the register had");
    }
    twin.set_reg(cpu_defs::Reg::Rip, address).expect("an address");
    twin
}

/// A round's variables as a thread of the VMM sees them.
struct Cell<'a> {
    map: &'a PhysMap,
    round: u64,
}

impl Cell<'_> {
    fn place(&self, variable: i32) -> (cpu_mem::HostPage, usize) {
        let gpa = VARIABLES + self.round * ROUND + variable as u64;
        (self.map.page(gpa).expect("RAM"), gpa as usize % 4096)
    }

    fn load(&self, variable: i32) -> u32 {
        let (page, offset) = self.place(variable);
        page.load(offset)
    }

    fn store(&self, variable: i32, value: u32) {
        let (page, offset) = self.place(variable);
        page.store(offset, value);
    }

    fn add(&self, variable: i32) {
        let (page, offset) = self.place(variable);
        page.update(offset, |old: u32| old + 1);
    }

    fn results(&self) -> Results {
        [0, 1, 2, 3].map(|number| {
            let result = RESULTS + 64 * number;
            [self.load(result), self.load(result + 4)]
        })
    }
}

fn vmm_rounds(map: &PhysMap, program: fn(&Cell<'_>) -> [u32; 2], threads: u32) {
    for round in 0..ROUNDS {
        let cell = Cell { map, round };
        cell.add(GATE);
        while cell.load(GATE) < threads {
            std::hint::spin_loop();
        }
        let [first, second] = program(&cell);
        let result = RESULTS + 64 * (threads as i32 - 1);
        cell.store(result, first);
        cell.store(result + 4, second);
    }
}

/// Stores X, fences by `fence`, loads Y.
fn stores_x(a: &mut CodeAssembler, fence: Program) {
    store(a, X, 1);
    fence(a);
    load(a, eax, Y);
}

fn stores_y(a: &mut CodeAssembler, fence: Program) {
    store(a, Y, 1);
    fence(a);
    load(a, eax, X);
}

fn mfence(a: &mut CodeAssembler) {
    a.mfence().unwrap();
}

fn locked(a: &mut CodeAssembler) {
    a.lock().or(dword_ptr(esp - 16), 0).unwrap();
}

fn cpuid_as_fence(a: &mut CodeAssembler) {
    a.mov(edi, ebx).unwrap();
    a.cpuid().unwrap();
    a.mov(ebx, edi).unwrap();
}

fn neither_saw_the_other(results: &Results) -> bool {
    results[0][0] == 0 && results[1][0] == 0
}

#[test]
fn a_load_does_not_pass_an_earlier_store_and_mfence() {
    let programs: [Program; 2] = [|a| stores_x(a, mfence), |a| stores_y(a, mfence)];
    litmus(&programs, None, true, neither_saw_the_other);
}

#[test]
fn a_load_does_not_pass_an_earlier_locked_instruction() {
    let programs: [Program; 2] = [|a| stores_x(a, locked), |a| stores_y(a, locked)];
    litmus(&programs, None, true, neither_saw_the_other);
}

#[test]
fn a_load_does_not_pass_an_earlier_serializing_instruction() {
    let programs: [Program; 2] = [|a| stores_x(a, cpuid_as_fence), |a| stores_y(a, cpuid_as_fence)];
    litmus(&programs, None, true, neither_saw_the_other);
}

#[test]
fn a_load_does_not_pass_an_earlier_xchg() {
    fn exchanges(a: &mut CodeAssembler, mine: i32, other: i32) {
        a.mov(edx, 1).unwrap();
        a.xchg(dword_ptr(ebx + mine), edx).unwrap();
        load(a, eax, other);
    }
    let programs: [Program; 2] = [|a| exchanges(a, X, Y), |a| exchanges(a, Y, X)];
    litmus(&programs, None, true, neither_saw_the_other);
}

#[test]
fn the_vmm_and_a_processor_see_each_others_fenced_stores() {
    let vmm = |cell: &Cell<'_>| {
        cell.store(Y, 1);
        fence(Ordering::SeqCst);
        [cell.load(X), 0]
    };
    litmus(&[|a| stores_x(a, mfence)], Some(vmm), true, neither_saw_the_other);
}

/// Stores data, then the flag.
fn publishes(a: &mut CodeAssembler) {
    store(a, X, 1);
    store(a, Y, 1);
}

/// Loads the flag, then the data.
fn consumes(a: &mut CodeAssembler) {
    load(a, eax, Y);
    load(a, ecx, X);
}

fn flag_without_data(result: [u32; 2]) -> bool {
    result == [1, 0]
}

#[test]
fn stores_are_seen_in_order_and_loads_are_done_in_order() {
    litmus(&[publishes, consumes], None, true, |results| flag_without_data(results[1]));
}

#[test]
fn the_vmm_sees_stores_of_a_processor_in_order() {
    let vmm = |cell: &Cell<'_>| [cell.load(Y), cell.load(X)];
    litmus(&[publishes], Some(vmm), true, |results| flag_without_data(results[1]));
}

#[test]
fn a_processor_sees_stores_of_the_vmm_in_order() {
    let vmm = |cell: &Cell<'_>| {
        cell.store(X, 1);
        cell.store(Y, 1);
        [0, 0]
    };
    litmus(&[consumes], Some(vmm), true, |results| flag_without_data(results[0]));
}

#[test]
fn a_store_does_not_pass_an_earlier_load() {
    let programs: [Program; 2] = [
        |a| {
            load(a, eax, X);
            store(a, Y, 1);
        },
        |a| {
            load(a, eax, Y);
            store(a, X, 1);
        },
    ];
    litmus(&programs, None, true, |results| results[0][0] == 1 && results[1][0] == 1);
}

#[test]
fn two_readers_agree_on_the_order_of_two_writers() {
    let programs: [Program; 4] = [
        |a| {
            load(a, eax, X);
            load(a, ecx, Y);
        },
        |a| {
            load(a, eax, Y);
            load(a, ecx, X);
        },
        |a| store(a, X, 1),
        |a| store(a, Y, 1),
    ];
    let disagree =
        |results: &Results| flag_without_data(results[0]) && flag_without_data(results[1]);
    // There may be less processors than threads, which are not kept waiting for each other then.
    litmus(&programs, None, false, disagree);
}

#[test]
fn a_processor_sees_its_own_store_first() {
    fn own_first(a: &mut CodeAssembler, mine: i32, other: i32) {
        store(a, mine, 1);
        load(a, eax, mine);
        load(a, ecx, other);
    }
    let programs: [Program; 2] = [|a| own_first(a, X, Y), |a| own_first(a, Y, X)];
    litmus(&programs, None, true, |results| results[0][0] == 0 || results[1][0] == 0);
}

#[test]
fn locked_additions_of_processors_and_the_vmm_are_not_lost() {
    let adds: Program = |a| {
        for _ in 0..4 {
            a.lock().add(dword_ptr(ebx + X), 1).unwrap();
        }
    };
    static ADDED: AtomicU32 = AtomicU32::new(0);
    let vmm = |cell: &Cell<'_>| {
        (0..4).for_each(|_| cell.add(X));
        while cell.load(X) < 8 {
            std::hint::spin_loop();
        }
        ADDED.fetch_add(1, Ordering::Relaxed);
        [cell.load(X), 0]
    };
    litmus(&[adds], Some(vmm), true, |results| results[1][0] != 8);
    assert!(u64::from(ADDED.load(Ordering::Relaxed)) >= ROUNDS);
}
