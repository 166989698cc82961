//! Accesses to the stack: the look into the page that it is in, which is mostly that of the one before.
//!
//! `unsafe`: assembly, called from translated code.
#![allow(unsafe_code)]

use std::arch::naked_asm;

use cpu_mmu::tlb_layout::{self, stack_page};

use crate::assemble::{Hole, NOT_ABOVE, R10, R11, R15};
use crate::emit::{Emitter, GUEST_RSP, Missed};
use crate::frame::FIND_STACK_PAGE;

/// A look that was in vain may be repeated: the stack is in another page now.
#[derive(Clone, Copy)]
pub(crate) struct StackLook {
    /// Where the code goes on that has found its page, with the offset there in R10.
    back: usize,
    /// Where the limit of the offset is.
    limit: i32,
}

impl Emitter {
    /// As [`Emitter::translate_distance`], near guest RSP.
    pub(crate) fn translate_stack(&mut self, len: usize, write: bool) -> Missed {
        let Some(limit) = stack_page::limit(len, write) else {
            return self.translate_distance(len, write, false);
        };
        self.give_up_flags();
        self.code.xor_memory(R10, R15, stack_page::PAGE);
        self.code.compare_memory(R15, limit, R10);
        let from = self.code.jump_if(NOT_ABOVE);
        let back = self.code.position();
        self.code.load(R11, R15, stack_page::DISTANCE);
        Missed { look: Some(StackLook { back, limit }), ..self.missed(from) }
    }

    /// As [`Self::translate_stack`], of the address that is `offset` from guest RSP.
    pub(crate) fn look_on_stack(&mut self, offset: i32, len: usize, write: bool) -> Missed {
        if offset == 0 {
            self.code.mov(R10, GUEST_RSP);
        } else {
            self.code.lea(R10, GUEST_RSP, None, offset);
        }
        self.translate_stack(len, write)
    }

    /// Has the page of the address that was looked for be that of the stack. The hole is for who finds
    /// that such an access is not allowed there.
    pub(crate) fn find_stack_page(&mut self, StackLook { back, limit }: StackLook) -> Hole {
        self.code.xor_memory(R10, R15, stack_page::PAGE);
        self.code.call_frame(FIND_STACK_PAGE);
        self.code.compare_memory(R15, limit, R10);
        let missed = self.code.jump_if(NOT_ABOVE);
        self.code.jump_to(back);
        missed
    }
}

/// Sets the limits that begin so far from R15.
macro_rules! set_limits {
    ($to:literal, $($at:literal: $limit:literal),*) => {
        concat!($("mov qword ptr [r15 + ", $to, " + ", $at, "], ", $limit, "\n"),*)
    };
}

macro_rules! allow {
    ($to:literal) => {
        set_limits!(
            $to, 0: "{limit_0}", 8: "{limit_1}", 16: "{limit_2}", 24: "{limit_3}", 32: "{limit_4}"
        )
    };
}

macro_rules! allow_nothing {
    ($to:literal) => {
        set_limits!($to, 0: "0", 8: "0", 16: "0", 24: "0", 32: "0")
    };
}

const _: () = assert!(stack_page::LIMITS.len() == 5, "the thunk stores so many");

/// Called by translated code with a linear address in R10: its page is that of the stack from now on, with
/// the rights that the TLB has for it. R10 becomes the offset there; R11 is overwritten, no other register is.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn stack_page_thunk() {
    naked_asm!(
        "push rax",
        "mov r11, r10",
        "shr r11, {shift}",
        "and r11d, {mask}",
        "add r11, r15",
        "mov rax, r10",
        "and rax, -4096",
        "xor r10, rax",
        "mov [r15 + {page}], rax",
        allow_nothing!("{reads}"),
        allow_nothing!("{writes}"),
        "cmp [r11 + {read}], rax",
        "jne 2f",
        allow!("{reads}"),
        "2:",
        "cmp [r11 + {write}], rax",
        "jne 3f",
        allow!("{writes}"),
        "3:",
        "mov rax, [r11 + {entry_distance}]",
        "mov [r15 + {distance}], rax",
        "pop rax",
        "ret",
        shift = const 12 - tlb_layout::ENTRY_LEN.trailing_zeros(),
        mask = const (tlb_layout::ENTRIES - 1) * tlb_layout::ENTRY_LEN,
        read = const tlb_layout::READ,
        write = const tlb_layout::WRITE,
        entry_distance = const tlb_layout::DISTANCE,
        page = const stack_page::PAGE,
        distance = const stack_page::DISTANCE,
        reads = const stack_page::READ_LIMITS,
        writes = const stack_page::WRITE_LIMITS,
        limit_0 = const stack_page::LIMITS[0],
        limit_1 = const stack_page::LIMITS[1],
        limit_2 = const stack_page::LIMITS[2],
        limit_3 = const stack_page::LIMITS[3],
        limit_4 = const stack_page::LIMITS[4],
    )
}
