//! The native oracle: random instructions of ring 3 on the processor of the host and in the
//! engine, compared.
//!
//! A case is one instruction with all registers and memory that it can see (`case`), made from
//! the decoder's tables (`forms`, `generate`, `aim`). The host runs it in a child process
//! (`child`), the engine in a guest that looks the same (`engine`). `compare` finds differences,
//! `shrink` the simplest case that still has one. Cases depend on the seed and their number alone.
#![deny(unsafe_code)]

mod aim;
mod arguments;
mod bench;
mod case;
mod child;
mod compare;
mod engine;
mod forms;
mod generate;
mod guest_memory;
mod layout;
mod native;
mod random;
mod report;
mod shared;
mod shrink;
mod state;
mod vendor;
mod watchdog;

use std::collections::BTreeMap;
use std::process::ExitCode;

use arguments::Arguments;
use bench::Bench;
use case::{CODE_LEN, Case};
use forms::{EXCLUDED, Form, Processors};
use iced_x86::Mnemonic;
use random::Random;

/// Percent of cases that are random bytes.
const WILD: u64 = 3;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == native::CHILD_ARGUMENT).is_some() {
        let fd = words.next().and_then(|word| word.parse().ok());
        child::main(fd.expect("the parent gives a descriptor"));
    }
    let arguments = match Arguments::parse(words) {
        Ok(arguments) => arguments,
        Err(sentence) => {
            eprintln!("{sentence}");
            return ExitCode::from(2);
        }
    };
    let mut run = Run::new(arguments);
    if run.arguments.list {
        run.list();
        return ExitCode::SUCCESS;
    }
    match run.all() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the child process: {error}");
            ExitCode::from(2)
        }
    }
}

/// One way of failing.
struct Kind {
    count: u64,
    number: u64,
    case: Case,
}

struct Run {
    arguments: Arguments,
    processors: Processors,
    forms: Vec<Form>,
    kinds: BTreeMap<String, Kind>,
    impossible: Vec<Form>,
}

impl Run {
    fn new(arguments: Arguments) -> Self {
        let processors = Processors::here();
        let mut forms: Vec<Form> =
            arguments.bits.iter().flat_map(|&bits| processors.forms(bits)).collect();
        forms.retain(|form| arguments.wants(form.code));
        Run { arguments, processors, forms, kinds: BTreeMap::new(), impossible: Vec::new() }
    }

    /// Prints the forms that are not tried.
    fn list(&self) {
        println!("{} forms are tried.", self.forms.len());
        for (mnemonics, reason) in EXCLUDED {
            println!("{mnemonics:?}: {reason}.");
        }
        let missing = iced_x86::Code::values()
            .filter(|&code| self.processors.only_host_has(code))
            .map(|code| format!("{code:?}"));
        println!("The host has these, the engine announces them not:");
        missing.for_each(|name| println!("  {name}"));
    }

    fn all(&mut self) -> std::io::Result<u64> {
        let mut bench = Bench::start(self.arguments.tolerance, self.processors.amd())?;
        let (mut number, end) = (self.arguments.first, self.arguments.first + self.arguments.cases);
        let (mut run, mut failed) = (0, 0);
        let mut batch: Vec<(u64, Case)> = Vec::new();
        while number < end && !(self.forms.is_empty() && self.arguments.bytes.is_none()) {
            batch.clear();
            while batch.len() < shared::BATCH && number < end {
                batch.extend(self.case(number).map(|case| (number, case)));
                number += 1;
            }
            if batch.is_empty() {
                continue;
            }
            let cases: Vec<Case> = batch.iter().map(|(_, case)| case.clone()).collect();
            run += cases.len() as u64;
            for (at, failure) in bench.run(&cases)? {
                failed += 1;
                let signature = bench.signature_of(&cases[at], &failure);
                let (number, case) = batch[at].clone();
                let kind = self.kinds.entry(signature).or_insert(Kind { count: 0, number, case });
                kind.count += 1;
            }
        }
        self.report(&mut bench);
        println!("{run} cases, {failed} differences");
        Ok(failed)
    }

    /// Case `number` of the run; none if it cannot be made or is not comparable.
    fn case(&mut self, number: u64) -> Option<Case> {
        let mut random = Random::of(self.arguments.seed, number);
        let amd = self.processors.amd();
        if let Some((bytes, len)) = self.arguments.bytes {
            let bits = random.pick(&self.arguments.bits);
            return Some(generate::case_with(bytes, len, bits, &mut random, amd));
        }
        let form = self.forms[(number % self.forms.len() as u64) as usize];
        let wild = self.arguments.code.is_none() && random.chance(WILD);
        let case = if wild {
            let bytes: [u8; CODE_LEN] = std::array::from_fn(|_| random.next() as u8);
            generate::case_with(bytes, CODE_LEN, form.bits, &mut random, amd)
        } else {
            let made = generate::case_of(form, &mut random, &self.processors);
            if made.is_none() && !self.impossible.contains(&form) {
                self.impossible.push(form);
            }
            made?
        };
        self.comparable(&case).then_some(case)
    }

    /// Mutated bytes may be something that both processors do not have in common.
    fn comparable(&self, case: &Case) -> bool {
        let instruction = generate::instruction_of(case, self.processors.amd());
        let code = instruction.code();
        let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
        let loops = matches!(code.mnemonic(), Mnemonic::Loope | Mnemonic::Loopne);
        if loops && repeats {
            // Reserved; AMD's processors loop as the prefix says.
            return false;
        }
        let software_interrupt = case.code.contains(&0xCD) && case.code.contains(&0x80);
        // VMCALL and VMMCALL behind any prefix: a hypervisor below the host answers.
        let hypercall = case.code.windows(3).any(|code| matches!(code, [0x0F, 0x01, 0xC1 | 0xD9]));
        !software_interrupt
            && !hypercall
            && (code == iced_x86::Code::INVALID
                || (self.processors.excluded(code).is_none() && self.processors.have(code)))
    }

    fn report(&self, bench: &mut Bench) {
        for form in &self.impossible {
            println!("no case was made for {:?} in {}-bit code", form.code, form.bits);
        }
        let mut kinds: Vec<(&String, &Kind)> = self.kinds.iter().collect();
        kinds.sort_by_key(|(_, kind)| std::cmp::Reverse(kind.count));
        for (shown, (signature, kind)) in kinds.into_iter().enumerate() {
            println!("{} x {signature}", kind.count);
            if shown >= self.arguments.show {
                continue;
            }
            let case = shrink::shrink(bench, &kind.case, signature);
            if let Some(failure) = bench.failure(&case) {
                let repeat = self.arguments.repeat(kind.number);
                report::print(&case, &failure, self.processors.amd(), &repeat);
            }
        }
    }
}
