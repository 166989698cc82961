//! What goes into a run of one instruction, and what comes out.
//!
//! Both are plain memory without pointers: they are shared with the child process.

use cpu_host::FpuState;

use crate::layout::{DATA_PAGES, LINE, Page};

/// Bytes of code: one more than the longest legal instruction.
pub const CODE_LEN: usize = 16;
/// Places of memory that a case sets.
pub const POKES: usize = 8;
/// Lines of memory that an outcome holds.
pub const LINES: usize = 96;

/// Bytes put into memory before the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Poke {
    /// Offset from the first page of data.
    pub at: u32,
    /// How many bytes; 0: none.
    pub len: u32,
    /// The bytes.
    pub bytes: [u8; LINE],
}

/// All inputs.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Case {
    /// x87 and vector registers.
    pub fpu: FpuState,
    /// General registers.
    pub gpr: [u64; 16],
    /// Offset of the instruction in its code segment.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// Base of FS in 64-bit code.
    pub fs_base: u64,
    /// Base of GS in 64-bit code.
    pub gs_base: u64,
    /// Selectors, numbered as in ModRM.
    pub seg: [u16; 6],
    /// Code size.
    pub bits: u32,
    /// Bytes of `code` that are the instruction.
    pub len: u32,
    /// The instruction.
    pub code: [u8; CODE_LEN],
    /// Memory that differs from the common image.
    pub pokes: [Poke; POKES],
}

/// A line of memory that differs from the common image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Line {
    /// Number of the line from the first page of data.
    pub number: u32,
    /// What is there.
    pub bytes: [u8; LINE],
}

/// Everything that is compared.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Outcome {
    /// x87 and vector registers.
    pub fpu: FpuState,
    /// General registers.
    pub gpr: [u64; 16],
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// Base of FS.
    pub fs_base: u64,
    /// Base of GS.
    pub gs_base: u64,
    /// Selectors, numbered as in ModRM.
    pub seg: [u16; 6],
    /// Exception that ended the run, or one of the `end` numbers.
    pub vector: u32,
    /// Its error code; 0 if it has none.
    pub error_code: u32,
    /// CR2 if it was a page fault.
    pub cr2: u64,
    /// How many of `lines` are valid; more than there are if they did not suffice.
    pub nr_lines: u32,
    /// Changed memory.
    pub lines: [Line; LINES],
}

/// Ends of a run that are not exceptions.
pub mod end {
    /// The engine cannot execute the instruction.
    pub const UNSUPPORTED: u32 = 256;
    /// The engine left for another reason.
    pub const EXIT: u32 = 257;
    /// The engine did not come to an end.
    pub const ENDLESS: u32 = 258;
    /// The child died.
    pub const DIED: u32 = 259;
}

/// An end in words.
#[must_use]
pub fn describe_end(vector: u32) -> String {
    const NAMES: [&str; 20] = [
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9", "#TS", "#NP", "#SS",
        "#GP", "#PF", "15", "#MF", "#AC", "#MC", "#XM",
    ];
    match vector {
        end::UNSUPPORTED => "unsupported".into(),
        end::EXIT => "exit".into(),
        end::ENDLESS => "endless".into(),
        end::DIED => "child died".into(),
        known if (known as usize) < NAMES.len() => NAMES[known as usize].into(),
        other => format!("vector {other}"),
    }
}

impl Outcome {
    /// Of nothing.
    #[must_use]
    pub fn empty() -> Self {
        Outcome {
            fpu: FpuState::at_reset(),
            gpr: [0; 16],
            rip: 0,
            rflags: 0,
            fs_base: 0,
            gs_base: 0,
            seg: [0; 6],
            vector: 0,
            error_code: 0,
            cr2: 0,
            nr_lines: 0,
            lines: [Line { number: 0, bytes: [0; LINE] }; LINES],
        }
    }

    /// The valid lines.
    #[must_use]
    pub fn changed(&self) -> &[Line] {
        &self.lines[..(self.nr_lines as usize).min(LINES)]
    }
}

/// Whether a line of memory can have changed, that is, is in a writable page.
#[must_use]
pub fn writable_line(number: usize) -> bool {
    DATA_PAGES.get(number * LINE / crate::layout::PAGE) == Some(&Page::Writable)
}
