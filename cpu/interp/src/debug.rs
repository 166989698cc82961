//! Breakpoints and debug exceptions: SDM volume 3, "Debug, Branch Profile, TSC, and Other Features".
//!
//! Instruction breakpoints are faults, looked at before the instruction is fetched. Traps are
//! collected in [`crate::state::Arch::pending_debug`] and delivered as one #DB at the end of the
//! instruction, or after the next one if this one loaded SS.
//!
//! Laws: pages with a data breakpoint are kept out of the TLB, so code without breakpoints pays
//! nothing; the accesses of an instruction that faults report nothing.

use cpu_defs::{Exception, cr4, dr7, rflags, vector};
use cpu_mem::PAGE_SIZE;
use cpu_mmu::{Access, AccessKind};

use crate::cpu::{Cpu, Request};
use crate::state::Shadow;
use crate::stop::{Done, Stop};

/// What a breakpoint waits for: R/W of DR7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Off,
    Execute,
    Write,
    Port,
    ReadWrite,
}

/// One of DR0 to DR3.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    kind: Kind,
    first: u64,
    last: u64,
}

impl Point {
    fn of(dr: [u64; 4], dr7: u64, cr4: u64, number: usize) -> Self {
        let enabled = dr7 >> (2 * number) & 3 != 0;
        let field = dr7 >> (dr7::RW_SHIFT + 4 * number as u32) & 0xF;
        let kind = match field & 3 {
            _ if !enabled => Kind::Off,
            0 => Kind::Execute,
            1 => Kind::Write,
            2 if cr4 & cr4::DE != 0 => Kind::Port,
            2 => Kind::Off,
            _ => Kind::ReadWrite,
        };
        let below = match field >> 2 {
            0 => 0,
            1 => 1,
            2 => 7,
            _ => 3,
        };
        let first = dr[number] & !below;
        Point { kind, first, last: first | below }
    }

    fn touches(&self, first: u64, last: u64) -> bool {
        self.first <= last && first <= self.last
    }
}

/// What a debugger of the host asks for. The guest does not see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostDebug {
    /// Stop after each instruction.
    pub step: bool,
    /// DR0 to DR3 and DR7 in place of the guest's.
    pub points: Option<([u64; 4], u64)>,
    /// INT3 stops instead of raising #BP.
    pub int3: bool,
    /// The guest takes no interrupts.
    pub block_interrupts: bool,
}

impl HostDebug {
    /// #DB stops instead of being delivered.
    fn takes_debug(&self) -> bool {
        self.step || self.points.is_some()
    }
}

/// The enabled breakpoints.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    points: [Point; 4],
    /// Some instruction breakpoint is enabled, or the host steps: every instruction is looked at.
    pub code: bool,
    data: bool,
    /// B0 to B3 of the accesses of the present instruction.
    hits: u64,
}

impl Watch {
    fn matches(&self, fits: impl Fn(&Point) -> bool) -> u64 {
        (0..4).filter(|&number| fits(&self.points[number])).map(|number| 1 << number).sum()
    }

    /// The instruction faulted.
    pub(crate) fn forget_hits(&mut self) {
        self.hits = 0;
    }
}

impl Cpu {
    /// Follows the wishes of a debugger of the host.
    pub fn set_host_debug(&mut self, wishes: HostDebug) {
        self.host_debug = wishes;
        self.refresh_breakpoints();
    }

    /// DR7 that counts.
    #[must_use]
    pub fn effective_dr7(&self) -> u64 {
        self.host_debug.points.map_or(self.arch.dr7, |(_, dr7)| dr7)
    }

    /// Whether the next instruction is the last for now: TF, or a step of the host.
    #[must_use]
    pub fn steps(&self) -> bool {
        self.host_debug.step || self.arch.rflags & rflags::TF != 0
    }

    /// Stops for the host's debugger, if an exception is for it.
    pub(crate) fn offer_to_host(&mut self, exception: Exception) -> Done {
        match exception.payload {
            Some(causes) if exception.vector == vector::DB && self.host_debug.takes_debug() => {
                self.stop_for_host(vector::DB, causes)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn stop_for_host(&mut self, vector: u8, causes: u64) -> Done {
        self.request = Some(Request::Debug { vector, causes });
        Err(Stop::Exit)
    }

    /// Looks at DR0 to DR3, DR7 and CR4.DE again.
    pub fn refresh_breakpoints(&mut self) {
        let (dr, dr7) = self.host_debug.points.unwrap_or((self.arch.dr, self.arch.dr7));
        let points = std::array::from_fn(|number| Point::of(dr, dr7, self.arch.cr4, number));
        let any = |wanted: &[Kind]| points.iter().any(|point: &Point| wanted.contains(&point.kind));
        let code = any(&[Kind::Execute]) || self.host_debug.step;
        let data = any(&[Kind::Write, Kind::ReadWrite]);
        let was = std::mem::replace(&mut self.watch, Watch { points, code, data, hits: 0 });
        if data || was.data {
            self.flush_translations();
        }
    }

    /// #DB of a breakpoint at the next instruction. RF suppresses it, and so does a load of SS
    /// before on Intel processors.
    pub(crate) fn code_breakpoint(&self) -> Option<Stop> {
        let resumed = self.arch.rflags & rflags::RF != 0;
        let held_back = self.arch.shadow == Shadow::MovSs && !self.features.amd;
        if !self.watch.code || resumed || held_back {
            return None;
        }
        let at = self.linear_rip();
        let hits = self.watch.matches(|point| {
            point.kind == Kind::Execute && self.breakpoint_address(point.first) == at
        });
        (hits != 0).then(|| Stop::Fault(Exception::debug(hits)))
    }

    /// Outside long mode linear addresses have 32 bits.
    fn breakpoint_address(&self, address: u64) -> u64 {
        if self.mode.long { address } else { address & 0xFFFF_FFFF }
    }

    /// Whether the page around `gla` has a data breakpoint.
    pub(crate) fn watches_page(&self, gla: u64) -> bool {
        let page = PAGE_SIZE as u64 - 1;
        self.watch.data && self.data_hits(AccessKind::Write, gla & !page, gla | page) != 0
    }

    fn data_hits(&self, kind: AccessKind, first: u64, last: u64) -> u64 {
        self.watch.matches(|point| {
            let fits = match point.kind {
                Kind::ReadWrite => true,
                Kind::Write => kind == AccessKind::Write,
                _ => false,
            };
            let at = self.breakpoint_address(point.first);
            fits && Point { first: at, last: at + (point.last - point.first), ..*point }
                .touches(first, last)
        })
    }

    /// Notes an access that an instruction makes, not one of a descriptor table.
    pub(crate) fn note_access(&mut self, gla: u64, len: usize, access: Access) {
        if !self.watch.data {
            return;
        }
        let last = gla.saturating_add(len as u64 - 1);
        let hits = self.data_hits(access.kind, gla, last);
        self.note_hits(hits);
    }

    /// Notes a port access that has been made.
    pub fn note_port(&mut self, port: u16, size: u8) {
        let first = u64::from(port);
        let last = first + u64::from(size) - 1;
        let hits =
            self.watch.matches(|point| point.kind == Kind::Port && point.touches(first, last));
        self.note_hits(hits);
    }

    fn note_hits(&mut self, hits: u64) {
        if hits != 0 {
            self.watch.hits |= hits;
            self.attention = true;
        }
    }

    /// Has #DB raised at the end of the instruction, with these bits of DR6.
    pub fn raise_debug_trap(&mut self, dr6: u64) {
        self.arch.pending_debug |= dr6;
        self.attention = true;
    }

    /// Behind the delivery of an exception nobody has to look at anything.
    pub(crate) fn has_nothing_to_tell(&self) -> bool {
        let quiet = !self.attention && !self.watch_interrupt_flag && !self.code_is_void;
        let traps = self.arch.pending_debug | self.watch.hits;
        quiet && self.request.is_none() && traps == 0
    }

    /// Delivers #DB if a trap waits. It ends a HLT.
    ///
    /// # Errors
    /// As [`Self::deliver_exception`].
    pub fn deliver_debug_traps(&mut self) -> Done {
        self.arch.pending_debug |= std::mem::take(&mut self.watch.hits);
        if self.arch.pending_debug == 0 || self.arch.shadow == Shadow::MovSs {
            return Ok(());
        }
        if self.host_debug.takes_debug() {
            // What the instruction asks the outside for comes first.
            if self.request.is_some() {
                return Ok(());
            }
            let causes = std::mem::take(&mut self.arch.pending_debug);
            return self.stop_for_host(vector::DB, causes);
        }
        if self.request == Some(Request::Hlt) {
            self.request = None;
        }
        let bits = std::mem::take(&mut self.arch.pending_debug);
        self.deliver_exception(Exception::debug(bits))
    }
}
