//! Input and output of hypercalls as blocks of bytes, in memory or in registers: TLFS, "Hypercall
//! Interface". For those that KVM has not; where it has them it looks at addresses in its own way.
//!
//! Of a fast hypercall RDX, R8 and XMM0 to XMM5 are one block. Input is at its beginning, output in what
//! input leaves, from the next 16 bytes on.

use cpu_defs::{Gpr, Reg};
use cpu_engine::Vcpu;
use cpu_paravirt::hyperv::hypercall::Status;

use super::Hyperv;
use super::hypercall::{Caller, Done};
use crate::paravirt::memory::{self, Structure};

/// Bytes that registers hold.
const REGISTERS: usize = 112;
const PAGE: usize = cpu_mem::PAGE_SIZE;
const WORD: usize = 8;

/// A list of elements, each with an answer: sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// What stands before the list.
    pub head: usize,
    /// An element.
    pub element: usize,
    /// Its answer, at most that of a register.
    pub answer: usize,
}

/// Where output goes.
#[derive(Debug)]
pub enum Place {
    /// From this byte on of what registers hold.
    Registers(usize),
    /// To memory.
    Memory(Structure),
}

impl Place {
    /// Writes whole words at `offset`.
    pub fn put(&self, vcpu: &mut Vcpu, offset: usize, bytes: &[u8]) {
        match self {
            Place::Memory(memory) => memory.write(offset, bytes),
            Place::Registers(first) => {
                let (words, _) = bytes.as_chunks::<WORD>();
                for (at, word) in (first + offset..).step_by(WORD).zip(words) {
                    put_word(vcpu, at, *word);
                }
            }
        }
    }
}

fn put_word(vcpu: &mut Vcpu, at: usize, word: [u8; WORD]) {
    match at {
        0 | WORD => {
            let register = if at == 0 { Gpr::Rdx } else { Gpr::R8 };
            // A general register takes any value.
            let taken = vcpu.set_reg(Reg::Gpr(register), u64::from_le_bytes(word));
            debug_assert!(taken.is_ok());
        }
        _ => {
            let place = at - 2 * WORD;
            let (register, half) = (place / 16, place % 16);
            vcpu.fpu_mut().zmm[register][half..half + WORD].copy_from_slice(&word);
        }
    }
}

impl Hyperv {
    /// The first `len` bytes of input, filled up to whole words.
    ///
    /// # Errors
    /// The status that TLFS has for what is not where it should be.
    pub(super) fn input(&self, caller: &Caller, len: usize) -> Result<Vec<u8>, Status> {
        let len = len.next_multiple_of(WORD);
        if caller.input.is_fast() {
            let words = caller.in_words.iter().chain(&caller.xmm);
            let bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).take(len).collect();
            return if bytes.len() == len { Ok(bytes) } else { Err(Status::InvalidHypercallInput) };
        }
        let address = caller.in_words[0];
        let mut bytes = vec![0; len];
        let read = is_in_page(address, len)
            && memory::copy_out(&self.vm.memory.normal, address, &mut bytes);
        if read { Ok(bytes) } else { Err(Status::InvalidAlignment) }
    }

    /// Where `len` bytes of output go, behind `input_len` bytes of input.
    ///
    /// # Errors
    /// As [`Hyperv::input`].
    pub(super) fn output(
        &self,
        caller: &Caller,
        input_len: usize,
        len: usize,
    ) -> Result<Place, Status> {
        let len = len.next_multiple_of(WORD);
        if caller.input.is_fast() {
            let first = input_len.next_multiple_of(2 * WORD);
            let fits = first + len <= REGISTERS;
            return if fits {
                Ok(Place::Registers(first))
            } else {
                Err(Status::InvalidHypercallInput)
            };
        }
        let address = caller.in_words[1];
        let there = is_in_page(address, len)
            .then(|| Structure::at(&self.vm.memory.normal, address, len))
            .flatten();
        there.map(Place::Memory).ok_or(Status::InvalidAlignment)
    }

    /// Goes through a list from the element on that the caller has named, to the first that fails.
    /// `begin` looks at what stands before it, `each` gives the answer to an element.
    pub(super) fn for_each(
        &mut self,
        vcpu: &mut Vcpu,
        caller: &Caller,
        list: List,
        begin: impl FnOnce(&Hyperv, &[u8]) -> Result<(), Status>,
        mut each: impl FnMut(&mut Hyperv, &mut Vcpu, &[u8]) -> Result<[u8; 16], Status>,
    ) -> Done {
        let List { head, element, answer } = list;
        let reps = usize::from(caller.input.reps());
        let first = usize::from(caller.input.first_rep());
        let len = head + reps * element;
        let prepared = self.input(caller, len).and_then(|input| {
            let place = match answer {
                0 => None,
                _ => Some(self.output(caller, len, reps * answer)?),
            };
            begin(self, &input[..head]).map(|()| (input, place))
        });
        let (input, place) = match prepared {
            Ok(prepared) => prepared,
            Err(status) => return status.into(),
        };
        let mut answers = Vec::new();
        let mut status = Status::Success;
        for element in input[head..].chunks_exact(element).take(reps).skip(first) {
            match each(self, vcpu, element) {
                Ok(bytes) => answers.push(bytes),
                Err(why) => {
                    status = why;
                    break;
                }
            }
        }
        let done = first + answers.len();
        if let Some(place) = place {
            let bytes: Vec<u8> =
                answers.iter().flat_map(|bytes| &bytes[..answer]).copied().collect();
            place.put(vcpu, first * answer, &bytes);
        }
        Done::After(status, done as u16)
    }
}

/// Whether so many bytes there are aligned and of one page.
fn is_in_page(address: u64, len: usize) -> bool {
    address.is_multiple_of(WORD as u64) && (address % PAGE as u64) as usize + len <= PAGE
}
