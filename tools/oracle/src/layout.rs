//! The linear addresses that the child process and the guest have in common.
//!
//! All below 2 GiB, so that every addressing form of 32-bit and 64-bit code reaches them.

/// Bytes in a page.
pub const PAGE: usize = 4096;
/// First page of code; executable, not writable, filled with INT3. Its neighbours are absent.
pub const CODE: u64 = 0x1000_0000;
/// INT3, which fills the code.
pub const FILLER: u8 = 0xCC;
/// Pages of code.
pub const CODE_PAGES: usize = 2;
/// Where most instructions are put, as an offset in the code.
pub const CODE_MIDDLE: u64 = 0x800;
/// First page of data; not executable.
pub const DATA: u64 = 0x1100_0000;

/// What a user program may do with a page of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Present and writable.
    Writable,
    /// Present.
    ReadOnly,
    /// Nothing is mapped.
    Absent,
}

/// The pages of data, in order. Each kind has each other as a neighbour.
pub const DATA_PAGES: [Page; 8] = [
    Page::Writable,
    Page::Writable,
    Page::Absent,
    Page::Writable,
    Page::ReadOnly,
    Page::Writable,
    Page::Absent,
    Page::Absent,
];

/// Bytes from the first page of data to the last.
pub const IMAGE: usize = DATA_PAGES.len() * PAGE;
/// Bytes that are compared at a time.
pub const LINE: usize = 64;

/// Selectors of Linux for user programs.
pub const USER32_CS: u16 = 0x23;
/// Flat data segment.
pub const USER_DS: u16 = 0x2B;
/// 64-bit code.
pub const USER_CS: u16 = 0x33;
/// 16-bit code in the local descriptor table, based at [`CODE`].
pub const CODE16: u16 = local(0);

/// Selector of a local descriptor.
const fn local(index: u16) -> u16 {
    index << 3 | 7
}

/// A descriptor of the local table, in the terms of modify_ldt(2).
#[derive(Clone, Copy, Debug)]
pub struct Local {
    /// Linear base address.
    pub base: u32,
    /// Limit in bytes, or in pages with `pages`.
    pub limit: u32,
    /// D/B.
    pub big: bool,
    /// 0 data, 1 expand-down data, 2 code, 3 conforming code.
    pub contents: u32,
    /// Not writable data, or not readable code.
    pub restricted: bool,
    /// G.
    pub pages: bool,
    /// P.
    pub present: bool,
}

const DATA_SEGMENT: Local = Local {
    base: DATA as u32,
    limit: IMAGE as u32 - 1,
    big: true,
    contents: 0,
    restricted: false,
    pages: false,
    present: true,
};

/// The local descriptor table.
pub const LOCALS: [Local; 9] = [
    Local { base: CODE as u32, limit: 0xFFFF, big: false, contents: 2, ..DATA_SEGMENT },
    DATA_SEGMENT,
    Local { limit: 0xFFF, big: false, contents: 1, ..DATA_SEGMENT },
    Local { restricted: true, ..DATA_SEGMENT },
    Local { base: 0, limit: 0xF_FFFF, contents: 2, restricted: true, pages: true, ..DATA_SEGMENT },
    Local { present: false, ..DATA_SEGMENT },
    Local { base: DATA as u32 + 0x123, limit: 0xFFF, ..DATA_SEGMENT },
    Local { base: CODE as u32, limit: 1, contents: 2, pages: true, ..DATA_SEGMENT },
    Local { limit: 0x2FFF, contents: 1, ..DATA_SEGMENT },
];

/// Selectors that cases load and are tried with.
pub const SELECTORS: [u16; 24] = [
    0,
    3,
    USER32_CS,
    USER_DS,
    USER_CS,
    0x28,
    0x08,
    0x10,
    0x18,
    0x40,
    0x53,
    0x63,
    0x7B,
    0x83,
    0xFFFF,
    local(0),
    local(1),
    local(2),
    local(3),
    local(4),
    local(5),
    local(6),
    local(7),
    local(8),
];

impl Local {
    /// The descriptor as Linux writes it: DPL 3, accessed.
    #[must_use]
    pub fn descriptor(&self) -> u64 {
        let (base, limit) = (u64::from(self.base), u64::from(self.limit));
        let kind = u64::from(self.contents) << 2 | u64::from(!self.restricted) << 1 | 1;
        let access = kind | 1 << 4 | 3 << 5 | u64::from(self.present) << 7;
        let flags = u64::from(self.big) << 2 | u64::from(self.pages) << 3;
        (limit & 0xFFFF)
            | (base & 0xFF_FFFF) << 16
            | access << 40
            | (limit >> 16 & 0xF) << 48
            | flags << 52
            | (base >> 24) << 56
    }
}
