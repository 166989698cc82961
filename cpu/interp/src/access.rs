//! Memory accesses of instructions: segment checks, translation, RAM or device.
//!
//! SDM volume 3, "Limit Checking", "Type Checking", "Alignment Check Exception (#AC)"; volume 1,
//! "Canonical Addressing". As on AMD processors, #AC precedes page faults.
//!
//! Laws: an access that crosses a page is translated on both pages before a byte moves; a store
//! that cannot complete stores nothing; a load inside a page is one machine load.

use cpu_defs::{Exception, SegReg, attrib, vector};
use cpu_mem::{HostPage, PAGE_SIZE, PageFlags, Word, granules, split_lock};
use cpu_mmu::{Access, AccessKind, PageFault, Privilege, Target, resolve};

use crate::cpu::{Cpu, Request};
use crate::mmio::CHUNK;
use crate::mode::Rights;
use crate::stop::{Done, Stop};

const OFFSET_MASK: u64 = PAGE_SIZE as u64 - 1;

/// So many [noted](cpu_mem::noted) pages are to be handed on before the next instruction.
pub const MANY_NOTED: usize = 64;

/// Number of SS among segment operands.
pub(crate) const SS: u8 = SegReg::Ss as u8;
/// Segment operand of accesses that do not go through a segment.
pub(crate) const FLAT: u8 = 7;

/// A page of an access that has been translated.
#[derive(Clone, Copy)]
pub(crate) enum Site {
    /// RAM that allows the access.
    Ram { gpa: u64, page: HostPage },
    /// A device, or a store to read-only memory.
    Device { gpa: u64 },
}

/// Where an access goes: one page, or two with the length of the first part.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    first: Site,
    second: Option<(usize, Site)>,
}

impl Span {
    /// `len` bytes (not none) from `at` on.
    pub(crate) fn part(self, at: usize, len: usize) -> Span {
        match self.second {
            Some((first_len, second)) if at >= first_len => {
                Span { first: second.from(at - first_len), second: None }
            }
            Some((first_len, second)) if at + len > first_len => {
                Span { first: self.first.from(at), second: Some((first_len - at, second)) }
            }
            _ => Span { first: self.first.from(at), second: None },
        }
    }
}

impl Site {
    /// `at` bytes further on in the page.
    fn from(self, at: usize) -> Site {
        match self {
            Site::Ram { gpa, page } => Site::Ram { gpa: gpa + at as u64, page },
            Site::Device { gpa } => Site::Device { gpa: gpa + at as u64 },
        }
    }
}

impl Cpu {
    /// Linear address of `len` bytes at an offset in a segment, checked against the segment for
    /// the rights `need`.
    #[inline(always)]
    pub(crate) fn linear(&self, seg: u8, offset: u64, len: u64, need: u8) -> Result<u64, Stop> {
        let segment = &self.arch.seg[usize::from(seg & 7)];
        if self.mode.code64 {
            let base = if seg >= SegReg::Fs as u8 { segment.base } else { 0 };
            return Ok(base.wrapping_add(offset));
        }
        let need = need | Rights::UP;
        let allowed = self.mode.rights[usize::from(seg & 7)] & need == need;
        if allowed && offset + (len - 1) <= u64::from(segment.limit) {
            return Ok(segment.base.wrapping_add(offset) & 0xFFFF_FFFF);
        }
        self.linear_checked(seg, offset, len, need & !Rights::UP)
    }

    #[cold]
    fn linear_checked(&self, seg: u8, offset: u64, len: u64, need: u8) -> Result<u64, Stop> {
        let segment = &self.arch.seg[usize::from(seg & 7)];
        let rights = self.mode.rights[usize::from(seg & 7)];
        let last = offset + (len - 1);
        let inside = if rights & Rights::UP != 0 {
            last <= u64::from(segment.limit)
        } else {
            let top = if segment.attrib & attrib::DB != 0 { 0xFFFF_FFFF } else { 0xFFFF };
            offset > u64::from(segment.limit) && last <= top
        };
        if inside && rights & need == need {
            return Ok(segment.base.wrapping_add(offset) & 0xFFFF_FFFF);
        }
        Err(address_fault(seg))
    }

    /// Loads from a segment.
    #[inline(always)]
    pub(crate) fn read<T: Word>(&mut self, seg: u8, offset: u64) -> Result<T, Stop> {
        let gla = self.linear(seg, offset, T::SIZE as u64, Rights::READ)?;
        self.read_linear(seg, gla, self.mode.privilege)
    }

    /// Stores to a segment.
    #[inline(always)]
    pub(crate) fn write<T: Word>(&mut self, seg: u8, offset: u64, value: T) -> Done {
        let gla = self.linear(seg, offset, T::SIZE as u64, Rights::WRITE)?;
        self.write_linear(seg, gla, self.mode.privilege, value)
    }

    /// Replaces a value in a segment by `f` of it; in one locked step with `lock`. `f` may run
    /// more than once, the last time counts.
    #[inline(always)]
    pub(crate) fn modify<T: Word>(
        &mut self,
        seg: u8,
        offset: u64,
        lock: bool,
        mut f: impl FnMut(T) -> T,
    ) -> Done {
        let gla = self.linear(seg, offset, T::SIZE as u64, Rights::READ | Rights::WRITE)?;
        let inside = (gla & OFFSET_MASK) as usize;
        if inside + T::SIZE <= PAGE_SIZE
            && let Some(page) = self.memory.tlb.write(self.mode.privilege, gla)
        {
            modify_page(page, inside, lock, f);
            return Ok(());
        }
        self.modify_slow(seg, gla, lock, &mut f)
    }

    #[inline(always)]
    pub(crate) fn read_linear<T: Word>(
        &mut self,
        seg: u8,
        gla: u64,
        privilege: Privilege,
    ) -> Result<T, Stop> {
        if let Some(page) = self.memory.tlb.read(privilege, gla)
            && let Some(value) = page.get((gla & OFFSET_MASK) as usize)
        {
            return Ok(value);
        }
        self.read_slow(seg, gla, privilege)
    }

    #[inline(always)]
    pub(crate) fn write_linear<T: Word>(
        &mut self,
        seg: u8,
        gla: u64,
        privilege: Privilege,
        value: T,
    ) -> Done {
        if let Some(page) = self.memory.tlb.write(privilege, gla)
            && page.put((gla & OFFSET_MASK) as usize, value).is_some()
        {
            return Ok(());
        }
        self.write_slow(seg, gla, privilege, value)
    }

    /// Loads from a descriptor table or TSS: supervisor rights, no segment.
    pub(crate) fn read_system<T: Word>(&mut self, gla: u64) -> Result<T, Stop> {
        let gla = if self.mode.long { gla } else { gla & 0xFFFF_FFFF };
        self.read_linear(FLAT, gla, Privilege::IMPLICIT)
    }

    /// Stores to a descriptor table or TSS.
    pub(crate) fn write_system<T: Word>(&mut self, gla: u64, value: T) -> Done {
        let gla = if self.mode.long { gla } else { gla & 0xFFFF_FFFF };
        self.write_linear(FLAT, gla, Privilege::IMPLICIT, value)
    }

    /// Checks that `len` bytes (at most a page) of a descriptor table or TSS can be stored.
    pub(crate) fn probe_system_write(&mut self, gla: u64, len: usize) -> Done {
        let gla = if self.mode.long { gla } else { gla & 0xFFFF_FFFF };
        let access = Access { kind: AccessKind::Write, privilege: Privilege::IMPLICIT };
        self.translate_span(FLAT, gla, len, access).map(|_| ())
    }

    #[cold]
    #[inline(never)]
    fn read_slow<T: Word>(&mut self, seg: u8, gla: u64, privilege: Privilege) -> Result<T, Stop> {
        let access = Access { kind: AccessKind::Read, privilege };
        let span = self.span(seg, gla, T::SIZE, access)?;
        self.read_span(span, gla)
    }

    #[cold]
    #[inline(never)]
    fn write_slow<T: Word>(&mut self, seg: u8, gla: u64, privilege: Privilege, value: T) -> Done {
        let access = Access { kind: AccessKind::Write, privilege };
        let span = self.span(seg, gla, T::SIZE, access)?;
        self.write_span(span, gla, value);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn modify_slow<T: Word>(
        &mut self,
        seg: u8,
        gla: u64,
        lock: bool,
        f: &mut dyn FnMut(T) -> T,
    ) -> Done {
        let access = Access { kind: AccessKind::Write, privilege: self.mode.privilege };
        let span = self.span(seg, gla, T::SIZE, access)?;
        if let Span { first: Site::Ram { gpa, page }, second: None } = span {
            modify_page(page, (gla & OFFSET_MASK) as usize, lock, f);
            self.note_store(gpa, page, T::SIZE);
            return Ok(());
        }
        let _split = lock.then(split_lock);
        let old = self.read_span(span, gla)?;
        self.write_span(span, gla, f(old));
        Ok(())
    }

    /// Checks that `len` bytes (at most a page) can be loaded, without loading.
    pub(crate) fn probe_read(&mut self, seg: u8, offset: u64, len: usize) -> Done {
        let gla = self.linear(seg, offset, len as u64, Rights::READ)?;
        let access = Access { kind: AccessKind::Read, privilege: self.mode.privilege };
        self.translate_span(seg, gla, len, access).map(|_| ())
    }

    /// Checks that `len` bytes (at most a page) can be stored, without storing.
    pub(crate) fn probe_write(&mut self, seg: u8, offset: u64, len: usize) -> Done {
        let gla = self.linear(seg, offset, len as u64, Rights::WRITE)?;
        let access = Access { kind: AccessKind::Write, privilege: self.mode.privilege };
        self.translate_span(seg, gla, len, access).map(|_| ())
    }

    /// Translates every page of an access of at most one page length that is about to be made, and
    /// checks its alignment where that is asked for.
    pub(crate) fn span(
        &mut self,
        seg: u8,
        gla: u64,
        len: usize,
        access: Access,
    ) -> Result<Span, Stop> {
        if access.privilege == Privilege::UserAligned {
            self.check_alignment(seg, gla, len, alignment(len))?;
        }
        self.unaligned_span(seg, gla, len, access)
    }

    /// #AC if an explicit access is to be aligned and the address is no multiple of `to`, a power
    /// of two. An address that is not canonical comes first.
    pub(crate) fn check_alignment(&self, seg: u8, gla: u64, len: usize, to: u64) -> Done {
        if self.mode.privilege != Privilege::UserAligned || gla & (to - 1) == 0 {
            return Ok(());
        }
        self.check_canonical(seg, gla, len)?;
        Err(Stop::Fault(Exception::with_code(vector::AC, 0)))
    }

    /// #GP or #SS if an address of the access is not canonical.
    pub(crate) fn check_canonical(&self, seg: u8, gla: u64, len: usize) -> Done {
        let last = gla.wrapping_add(len as u64 - 1);
        if self.mode.long && !(self.mode.is_canonical(gla) && self.mode.is_canonical(last)) {
            return Err(address_fault(seg));
        }
        Ok(())
    }

    /// As [`Self::span`], of an operand whose alignment does not matter or has been checked.
    pub(crate) fn unaligned_span(
        &mut self,
        seg: u8,
        gla: u64,
        len: usize,
        access: Access,
    ) -> Result<Span, Stop> {
        let span = self.translate_span(seg, gla, len, access)?;
        if seg != FLAT {
            self.note_access(gla, len, access);
        }
        Ok(span)
    }

    pub(crate) fn translate_span(
        &mut self,
        seg: u8,
        gla: u64,
        len: usize,
        access: Access,
    ) -> Result<Span, Stop> {
        self.check_canonical(seg, gla, len)?;
        let last = gla.wrapping_add(len as u64 - 1);
        let first = self.site(gla, access)?;
        let first_len = PAGE_SIZE - (gla & OFFSET_MASK) as usize;
        if first_len >= len {
            return Ok(Span { first, second: None });
        }
        let next = last & !OFFSET_MASK;
        // System tables have wide addresses in compatibility mode as well.
        let wide = self.mode.code64 || (self.mode.long && seg == FLAT);
        let next = if wide { next } else { next & 0xFFFF_FFFF };
        let second = self.site(next, access)?;
        Ok(Span { first, second: Some((first_len, second)) })
    }

    fn site(&mut self, gla: u64, access: Access) -> Result<Site, Stop> {
        if let Some(site) = self.cached_site(gla, access) {
            return Ok(site);
        }
        match self.target(gla, access)? {
            Target::Memory { gpa, page } => Ok(Site::Ram { gpa, page }),
            Target::NotBacked { gpa } => Ok(Site::Device { gpa }),
        }
    }

    /// As the TLB has it: each half of what crosses a page, mostly.
    fn cached_site(&self, gla: u64, access: Access) -> Option<Site> {
        let tlb = &self.memory.tlb;
        let page = match access.kind {
            AccessKind::Read => tlb.read(access.privilege, gla)?,
            AccessKind::Write => tlb.write(access.privilege, gla)?,
            AccessKind::Execute => return None,
        };
        let gpa = tlb.gpa(access.privilege, gla)?;
        Some(Site::Ram { gpa, page })
    }

    /// Where an access goes. Stops where memory is refused.
    pub(crate) fn target(&mut self, gla: u64, access: Access) -> Result<Target, Stop> {
        let needed = match access.kind {
            AccessKind::Read => PageFlags::READ,
            AccessKind::Write => PageFlags::WRITE,
            AccessKind::Execute => PageFlags::EXECUTE,
        };
        loop {
            let memory = &mut self.memory;
            let target = resolve(&mut memory.tlb, &memory.paging, &memory.map, gla, access);
            if memory.map.notes_writes() && cpu_mem::noted() >= MANY_NOTED {
                self.attention = true;
            }
            self.keep_watched_out_of_tlb(gla, access);
            let target = target.map_err(page_fault)?;
            let gpa = match target {
                Target::Memory { gpa, page } => {
                    let memory = &mut self.memory;
                    let writes = memory.tlb.write(access.privilege, gla).is_some();
                    if writes && memory.holds_code(gpa, page) {
                        memory.tlb.forget_write(access.privilege, gla);
                    }
                    return Ok(target);
                }
                Target::NotBacked { gpa } => gpa,
            };
            let map = &self.memory.map;
            if map.is_refused(gpa) {
                self.request = Some(Request::Refused { gpa });
                return Err(Stop::Exit);
            }
            // A page that came just now is no longer refused.
            if !map.page(gpa).is_some_and(|page| page.flags().contains(needed)) {
                return Ok(target);
            }
        }
    }

    /// Accesses to a page with a data breakpoint must all be seen.
    pub(crate) fn keep_watched_out_of_tlb(&mut self, gla: u64, access: Access) {
        if self.watches_page(gla) {
            self.memory.tlb.forget(access.privilege, gla);
        }
    }

    fn read_span<T: Word>(&mut self, span: Span, gla: u64) -> Result<T, Stop> {
        if let Span { first: Site::Ram { page, .. }, second: None } = span {
            return Ok(page.load((gla & OFFSET_MASK) as usize));
        }
        let mut bytes = [0; 16];
        self.read_parts(span, &mut bytes[..T::SIZE])?;
        Ok(T::truncate(u128::from_le_bytes(bytes)))
    }

    fn write_span<T: Word>(&mut self, span: Span, gla: u64, value: T) {
        if let Span { first: Site::Ram { gpa, page }, second: None } = span {
            page.store((gla & OFFSET_MASK) as usize, value);
            self.note_store(gpa, page, T::SIZE);
            return;
        }
        self.write_parts(span, &value.widen().to_le_bytes()[..T::SIZE]);
    }

    pub(crate) fn read_parts(&mut self, span: Span, bytes: &mut [u8]) -> Done {
        match span.second {
            None => self.read_site(span.first, bytes),
            Some((first_len, second)) => {
                let (head, tail) = bytes.split_at_mut(first_len);
                self.read_site(span.first, head)?;
                self.read_site(second, tail)
            }
        }
    }

    pub(crate) fn write_parts(&mut self, span: Span, bytes: &[u8]) {
        match span.second {
            None => self.write_site(span.first, bytes),
            Some((first_len, second)) => {
                let (head, tail) = bytes.split_at(first_len);
                self.write_site(span.first, head);
                self.write_site(second, tail);
            }
        }
    }

    fn read_site(&mut self, site: Site, bytes: &mut [u8]) -> Done {
        let gpa = match site {
            Site::Ram { gpa, page } => {
                page.copy_out((gpa & OFFSET_MASK) as usize, bytes);
                return Ok(());
            }
            Site::Device { gpa } => gpa,
        };
        if let Some(page) =
            self.memory.map.page(gpa).filter(|p| p.flags().contains(PageFlags::READ))
        {
            // The load of a read-modify-write in read-only memory.
            page.copy_out((gpa & OFFSET_MASK) as usize, bytes);
            return Ok(());
        }
        for (number, chunk) in bytes.chunks_mut(CHUNK).enumerate() {
            if let Err(access) = self.memory.mmio.read(gpa + (number * CHUNK) as u64, chunk) {
                self.request = Some(Request::MmioRead(access));
                return Err(Stop::Exit);
            }
        }
        Ok(())
    }

    fn write_site(&mut self, site: Site, bytes: &[u8]) {
        match site {
            Site::Ram { gpa, page } => {
                page.copy_in((gpa & OFFSET_MASK) as usize, bytes);
                self.note_store(gpa, page, bytes.len());
            }
            Site::Device { gpa } => {
                for (number, chunk) in bytes.chunks(CHUNK).enumerate() {
                    self.memory.mmio.write(gpa + (number * CHUNK) as u64, chunk);
                }
                self.request = Some(Request::MmioWrite);
                self.attention = true;
            }
        }
    }

    /// After a store the TLB did not serve: was it to decoded code?
    pub(crate) fn note_store(&mut self, gpa: u64, page: HostPage, len: usize) {
        let memory = &mut self.memory;
        let own = memory.code.has_page(gpa);
        let hit = memory.shared_code.stored(page, granules(gpa, len), own);
        if own && (hit || memory.code.hits(gpa, len)) {
            memory.code.overwrite(gpa);
            self.attention = true;
        }
    }
}

/// #PF, which sets CR2 when it is delivered.
#[cold]
pub(crate) fn page_fault(fault: PageFault) -> Stop {
    Stop::Fault(Exception::page_fault(fault.error_code, fault.gla))
}

/// What #AC wants of an operand of `len` bytes (SDM volume 3, "Alignment Check Exception"). Vectors
/// want 16 bytes at most.
fn alignment(len: usize) -> u64 {
    match len {
        2 | 4 | 8 => len as u64,
        10 => 8,
        16 | 32 | 64 => 16,
        _ => 1,
    }
}

/// #SS(0) for the stack segment, #GP(0) for the others.
#[cold]
pub(crate) fn address_fault(seg: u8) -> Stop {
    let vector = if seg == SS { vector::SS } else { vector::GP };
    Stop::Fault(Exception::with_code(vector, 0))
}

#[inline(always)]
fn modify_page<T: Word>(page: HostPage, offset: usize, lock: bool, mut f: impl FnMut(T) -> T) {
    if lock {
        page.update(offset, f);
    } else {
        let old = page.load(offset);
        page.store(offset, f(old));
    }
}
