//! The loop: find the block at RIP, execute it, deliver its exceptions.

use std::sync::Arc;

use cpu_defs::{Exception, SegReg, dr6, rflags};
use cpu_mem::{HostPage, PAGE_SIZE, granules};
use cpu_mmu::{Access, AccessKind, Target};

use crate::cpu::{Cpu, Request};
use crate::decode::{BlockCache, Crossed, Decoded, MAX_LEN, decode_one};
use crate::executed::Executed;
use crate::op::Op;
use crate::state::Shadow;
use crate::stop::{Done, Stop};

const OFFSET_MASK: u64 = PAGE_SIZE as u64 - 1;

/// Dropped pages that are remembered one by one.
const MAX_DROPPED_PAGES: usize = 64;

/// Why [`Interp::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At an instruction boundary where events should be looked at.
    Boundary,
    /// The outside has to act.
    Request(Request),
    /// The instruction at RIP cannot be executed.
    Unsupported,
    /// Triple fault.
    Shutdown,
}

impl Dropped {
    fn add(&mut self, page: u64) {
        if self.pages.len() >= MAX_DROPPED_PAGES {
            self.pages.clear();
            self.all = true;
        }
        self.pages.push(page);
    }
}

/// A processor with its decoded code.
pub struct Interp {
    /// The processor.
    pub cpu: Cpu,
    blocks: BlockCache,
    executed: Arc<Executed>,
    /// What another tier has to hear of, see [`Self::take_dropped`].
    dropped: Dropped,
}

/// Where an instruction is.
#[derive(Clone, Copy, Debug)]
pub struct Fetched {
    /// Guest-physical address, offset included.
    pub gpa: u64,
    /// The page of RAM.
    pub page: HostPage,
    /// The translation is a new one. So may the page's contents be: the guest may have had a device
    /// write them, and asked it whether that is done. Code of the page has to be compared.
    pub new: bool,
}

/// Cached code that was dropped.
#[derive(Debug, Default)]
pub struct Dropped {
    /// All of it.
    pub all: bool,
    /// That of these guest-physical pages.
    pub pages: Vec<u64>,
}

impl Interp {
    /// Wraps a processor.
    #[must_use]
    pub fn new(cpu: Cpu) -> Self {
        let (blocks, dropped) = (BlockCache::new(), Dropped::default());
        Interp { cpu, blocks, executed: Arc::default(), dropped }
    }

    /// Keeps few decoded blocks from now on: another tier executes what runs often.
    pub fn keep_few_blocks(&mut self) {
        self.blocks.keep_few();
    }

    /// What it has executed so far, for any thread to read.
    #[must_use]
    pub fn executed(&self) -> Arc<Executed> {
        Arc::clone(&self.executed)
    }

    /// The caller has carried out instructions in the processor's place.
    pub fn count(&self, instructions: usize) {
        self.executed.add(instructions);
    }

    /// Drops every cached translation and decoded block.
    pub fn flush(&mut self) {
        self.blocks.clear();
        self.dropped.all = true;
        self.cpu.memory.code.clear();
        self.cpu.flush_translations();
    }

    /// Enters system management mode; an SMI is being delivered. False: the state-save area is not
    /// in writable memory.
    pub fn enter_smm(&mut self) -> bool {
        let saved = self.cpu.enter_smm();
        self.drop_stale_code();
        saved
    }

    /// Puts the processor into system management mode, or out of it, and changes nothing else.
    pub fn set_smm(&mut self, active: bool) {
        self.cpu.set_smm(active);
        self.drop_stale_code();
        self.cpu.reload_pdptes();
        self.cpu.refresh_paging();
    }

    /// Others who know of no code may have written memory: every processor compares its code with it
    /// before it uses it again, this one now, the others when they serialize.
    pub fn distrust_code(&mut self) {
        self.cpu.memory.shared_code.distrust();
        self.cpu.distrust_code();
    }

    /// Executes until something needs the caller; `kicked` is asked at every block end.
    pub fn run(&mut self, kicked: impl Fn() -> bool) -> Outcome {
        loop {
            if let Some(outcome) = self.run_block(usize::MAX) {
                return outcome;
            }
            if kicked() {
                return Outcome::Boundary;
            }
        }
    }

    /// Executes one instruction (one iteration at least of a string instruction).
    pub fn step(&mut self) -> Outcome {
        self.run_block(1).unwrap_or(Outcome::Boundary)
    }

    /// Executes the block at RIP. None: nothing needs the caller.
    pub fn run_one_block(&mut self) -> Option<Outcome> {
        self.run_block(usize::MAX)
    }

    /// Code that was dropped since the last call, from every cache. True if there is any.
    #[inline]
    pub fn take_dropped(&mut self, into: &mut Dropped) -> bool {
        if !self.dropped.all && self.dropped.pages.is_empty() {
            return false;
        }
        std::mem::swap(&mut self.dropped, into);
        true
    }

    /// Where the instruction at RIP is.
    ///
    /// # Errors
    /// What fetching raises.
    pub fn fetch(&mut self) -> Result<Fetched, Stop> {
        let gla = self.cpu.linear_rip();
        fetch_page(&mut self.cpu, gla)
    }

    /// Decodes the instruction at the start of `bytes` as 64-bit code. None if they end before it
    /// does, or decoding raises an exception. True: none may follow it in its block.
    pub fn decode(&mut self, bytes: &[u8]) -> Option<(Op, bool)> {
        let Cpu { features, native, .. } = &mut self.cpu;
        match decode_one(bytes, 64, features, native) {
            Decoded::Op { op, last } => Some((op, last)),
            _ => None,
        }
    }

    /// Makes room for another block of instructions that the host executes.
    pub fn make_room(&mut self) {
        if self.cpu.native.is_full() {
            self.blocks.clear();
            self.cpu.native.clear();
            self.dropped.all = true;
        }
    }

    /// Executes at most `limit` instructions of the block at RIP.
    #[inline(always)]
    fn run_block(&mut self, limit: usize) -> Option<Outcome> {
        let cpu = &mut self.cpu;
        let single = cpu.is_single_stepped();
        if single && let Some(stop) = cpu.code_breakpoint() {
            return self.after_stop(stop);
        }
        let gla = cpu.linear_rip();
        let block = match self.blocks.recent(gla, cpu.mode.key, cpu.epoch) {
            Some(block) => block,
            None => match find_block(cpu, &mut self.blocks, &mut self.dropped, gla) {
                Ok(block) => block,
                Err(stop) => return self.after_stop(stop),
            },
        };
        let ops = &self.blocks.block(block).ops;
        let in_segment = cpu.mode.code64 || {
            let end = cpu.arch.rip().saturating_add(self.blocks.block(block).len_bytes());
            end - 1 <= u64::from(cpu.arch.segment(SegReg::Cs).limit)
        };
        if single || limit == 1 || !in_segment {
            return self.run_single(block);
        }
        match execute(cpu, ops, &self.executed) {
            Ok(()) if cpu.attention => self.after_attention(),
            Ok(()) => None,
            Err(stop) => self.after_stop(stop),
        }
    }

    /// One instruction, with all that the fast path leaves out: CS limit, shadow, RF, TF.
    #[cold]
    #[inline(never)]
    fn run_single(&mut self, block: u32) -> Option<Outcome> {
        let cpu = &mut self.cpu;
        let op = self.blocks.block(block).ops[0];
        let last = cpu.arch.rip().saturating_add(u64::from(op.len) - 1);
        if !cpu.mode.code64 && last > u64::from(cpu.arch.segment(SegReg::Cs).limit) {
            return self.after_stop(Stop::Fault(Exception::gp(0)));
        }
        let trap = cpu.steps();
        let (shadow, resume) = (cpu.arch.shadow, cpu.arch.rflags & rflags::RF);
        cpu.arch.shadow = Shadow::None;
        cpu.arch.rflags &= !rflags::RF;
        cpu.inhibit_trap = false;
        if let Err(stop) = execute(cpu, &[op], &self.executed) {
            if !matches!(stop, Stop::Fault(_)) {
                cpu.arch.shadow = shadow;
                cpu.arch.rflags |= resume;
            }
            return self.after_stop(stop);
        }
        if shadow == Shadow::MovSs && cpu.arch.shadow == Shadow::MovSs {
            // Only the first of several loads of SS delays anything.
            cpu.arch.shadow = Shadow::None;
        }
        if trap && (cpu.host_debug.step || !cpu.inhibit_trap) && cpu.arch.shadow != Shadow::MovSs {
            cpu.raise_debug_trap(dr6::BS);
        }
        if cpu.attention || shadow != Shadow::None || trap { self.after_attention() } else { None }
    }

    /// After an instruction that asked for [attention](Cpu::attention): code overwritten, a request,
    /// or an event. None: nothing needs the caller.
    #[cold]
    #[inline(never)]
    pub fn after_attention(&mut self) -> Option<Outcome> {
        if let Err(stop) = self.cpu.deliver_debug_traps() {
            return self.after_stop(stop);
        }
        self.cpu.attention = false;
        self.drop_stale_code();
        Some(self.cpu.request.take().map_or(Outcome::Boundary, Outcome::Request))
    }

    /// Drops blocks whose code was overwritten. Who executes instructions by itself does it before others of
    /// a page that they stored to.
    pub fn drop_stale_code(&mut self) {
        if std::mem::take(&mut self.cpu.code_is_void) {
            self.flush();
        }
        while let Some(page) = self.cpu.memory.code.take_overwritten() {
            self.blocks.drop_page(page);
            // Not when it was overwritten: its blocks may have been found since.
            self.cpu.epoch = self.cpu.epoch.wrapping_add(1);
            self.dropped.add(page);
        }
    }

    /// After an instruction that stopped; RIP is where the stop found it. None: nothing needs the
    /// caller.
    #[cold]
    #[inline(never)]
    pub fn after_stop(&mut self, stop: Stop) -> Option<Outcome> {
        let cpu = &mut self.cpu;
        let stop = match stop {
            Stop::Fault(exception) => {
                cpu.forget_access();
                match cpu.offer_to_host(exception).and_then(|()| cpu.deliver_fault(exception)) {
                    // What waits for an interrupt flag or a shadow may not have to any more.
                    Ok(()) if cpu.has_nothing_to_tell() => return None,
                    Ok(()) => return self.after_attention(),
                    Err(stop) => stop,
                }
            }
            other => {
                cpu.memory.mmio.forget_writes();
                cpu.watch.forget_hits();
                other
            }
        };
        cpu.attention = false;
        self.drop_stale_code();
        Some(match (stop, self.cpu.request.take()) {
            (Stop::Exit, Some(request)) => Outcome::Request(request),
            (Stop::Shutdown, _) => Outcome::Shutdown,
            _ => Outcome::Unsupported,
        })
    }

    /// The bytes at RIP, as far as they can be fetched without side effects.
    #[must_use]
    pub fn code_bytes(&self) -> ([u8; MAX_LEN], usize) {
        let cpu = &self.cpu;
        let mut bytes = [0; MAX_LEN];
        let (start, mut len) = (cpu.linear_rip(), 0);
        while len < MAX_LEN {
            let gla = start.wrapping_add(len as u64);
            let page = cpu_mmu::translate(&cpu.memory.paging, &cpu.memory.map, gla)
                .ok()
                .and_then(|found| cpu.memory.map.page(found.gpa).map(|page| (page, found.gpa)));
            let Some((page, gpa)) = page else { break };
            let offset = (gpa & OFFSET_MASK) as usize;
            let part = (PAGE_SIZE - offset).min(MAX_LEN - len);
            page.copy_out(offset, &mut bytes[len..len + part]);
            len += part;
        }
        (bytes, len)
    }
}

/// Executes straight-line code until its end, a stop, or a call for attention.
#[inline(always)]
fn execute(cpu: &mut Cpu, ops: &[Op], executed: &Executed) -> Done {
    let mut rest = ops.iter();
    while let Some(op) = rest.next() {
        let start = cpu.arch.rip();
        cpu.arch.set_rip(start.wrapping_add(u64::from(op.len)));
        if let Err(stop) = (op.run)(cpu, op) {
            if !cpu.task_switched {
                cpu.arch.set_rip(start);
            }
            executed.add(ops.len() - rest.len() - 1);
            return Err(stop);
        }
        if cpu.attention {
            cpu.attention_rip = start;
            break;
        }
    }
    executed.add(ops.len() - rest.len());
    Ok(())
}

/// The slow way to a block: translate, look up by physical position, decode.
#[cold]
#[inline(never)]
fn find_block(
    cpu: &mut Cpu,
    blocks: &mut BlockCache,
    dropped: &mut Dropped,
    gla: u64,
) -> Result<u32, Stop> {
    let bits = cpu.mode.code_bits;
    let limit = u64::from(cpu.arch.segment(SegReg::Cs).limit);
    if !cpu.mode.code64 && cpu.arch.rip() > limit {
        return Err(Stop::Fault(Exception::gp(0)));
    }
    let Fetched { gpa, page, new } = fetch_page(cpu, gla)?;
    let key = cpu.mode.key;
    if blocks.has_crossing(gla, key) {
        let op = decode_across_pages(cpu, blocks, gla)?;
        return Ok(blocks.set_scratch(op));
    }
    if cpu.native.is_full() {
        blocks.clear();
        cpu.native.clear();
        dropped.all = true;
    }
    if new && blocks.check_page(gpa, page) {
        cpu.epoch = cpu.epoch.wrapping_add(1);
    }
    let found = match blocks.lookup(gpa, bits) {
        Some(number) => Some(number),
        None => blocks.decode(gpa, bits, page, &cpu.features, &mut cpu.native),
    };
    if let Some(number) = found {
        if blocks.is_checked(number, cpu.code_epoch) {
            blocks.remember(gla, key, cpu.epoch, number);
            return Ok(number);
        }
        let len = blocks.block(number).len_bytes() as usize;
        cpu.memory.mark_code(gpa, page, granules(gpa, len));
        if blocks.check(number, gpa, page, cpu.code_epoch) {
            blocks.remember(gla, key, cpu.epoch, number);
            return Ok(number);
        }
        cpu.epoch = cpu.epoch.wrapping_add(1);
    }
    let op = decode_across_pages(cpu, blocks, gla)?;
    Ok(blocks.set_scratch(op))
}

/// The RAM page to fetch from at a linear address.
fn fetch_page(cpu: &mut Cpu, gla: u64) -> Result<Fetched, Stop> {
    if cpu.mode.long && !cpu.mode.is_canonical(gla) {
        return Err(Stop::Fault(Exception::gp(0)));
    }
    let privilege = cpu.mode.fetch_privilege;
    let memory = &mut cpu.memory;
    if let Some(page) = memory.tlb.execute(privilege, gla)
        && let Some(gpa) = memory.tlb.gpa(privilege, gla)
    {
        return Ok(Fetched { gpa, page, new: false });
    }
    let access = Access { kind: AccessKind::Execute, privilege };
    match cpu.target(gla, access)? {
        Target::Memory { gpa, page } => Ok(Fetched { gpa, page, new: true }),
        Target::NotBacked { .. } => Err(Stop::Unsupported),
    }
}

/// Bytes from RIP to the end of the code segment, as far as an instruction may reach.
fn bytes_in_segment(cpu: &Cpu) -> usize {
    if cpu.mode.code64 {
        return MAX_LEN;
    }
    let limit = u64::from(cpu.arch.segment(SegReg::Cs).limit);
    (limit + 1).saturating_sub(cpu.arch.rip()).min(MAX_LEN as u64) as usize
}

/// Decodes the instruction at the end of a page or of the code segment, or the exception that
/// decoding raises.
fn decode_across_pages(cpu: &mut Cpu, blocks: &mut BlockCache, gla: u64) -> Result<Op, Stop> {
    let mut bytes = [0; MAX_LEN];
    let mut len = 0;
    let key = cpu.mode.key;
    let end = bytes_in_segment(cpu);
    while len < end {
        let at = gla.wrapping_add(len as u64);
        let at = if cpu.mode.code64 { at } else { at & 0xFFFF_FFFF };
        let Fetched { gpa, page, .. } = fetch_page(cpu, at)?;
        let offset = (gpa & OFFSET_MASK) as usize;
        let part = (PAGE_SIZE - offset).min(end - len);
        page.copy_out(offset, &mut bytes[len..len + part]);
        let crosses = len != 0;
        len += part;
        match blocks.crossing(gla, key, &bytes[..len]) {
            Crossed::Op(op) => return Ok(op),
            Crossed::Longer => continue,
            Crossed::Unknown => {}
        }
        match decode_one(&bytes[..len], cpu.mode.code_bits, &cpu.features, &mut cpu.native) {
            Decoded::Op { op, .. } => {
                blocks.set_crossing(gla, key, crosses.then_some((op, bytes)));
                return Ok(op);
            }
            Decoded::Fault(exception) => return Err(Stop::Fault(exception)),
            Decoded::Truncated => {}
        }
    }
    Err(Stop::Fault(Exception::gp(0)))
}
