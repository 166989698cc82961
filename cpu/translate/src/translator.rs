//! The translator of one processor: its code, and the loop that enters it.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cpu_host::CodeMemory;
use cpu_interp::{Dropped, Executed, Fetched, Interp, Outcome};
use cpu_mem::{HostPage, PAGE_SIZE, granules};

use crate::block::{BlockMaker, Manner};
use crate::callout::{Context, is_translatable};
use crate::decode::{CROSSINGS, MAX_ITEMS, MAX_LEN, crossing_index};
use crate::effects::Item;
use crate::enter::{enter, serialize};
use crate::limit::{CodeLimit, CodeShare};
use crate::links::{Link, Links};
use crate::lockstep::Stretches;
use crate::pages::{At, Block, Entered, INTERPRET, PageKey, Pages, STALE, key};
use crate::sites::Sites;

/// How often tier 0 executes a block that is worth no translation yet: so much does one cost.
pub const PATIENCE: u8 = 12;
/// Likewise, of one whose page was overwritten: what runs from there mostly was worth one before.
const PATIENCE_AGAIN: u8 = 4;
/// Counters of what runs.
const COUNTERS: usize = 1 << 16;
/// Twins have counters of their own, more or less.
const TWIN_HEAT: u64 = 0xA5A << 2;
/// So many times as often tier 0 executes what a twin would: mostly a page is new to the TLB.
const TWIN_PATIENCE: u8 = 4;
/// Room in the arena that a block may take.
const SPARE: usize = 1 << 16;

/// Entries of [`Translator::found`].
const FOUND: usize = 1 << 13;

/// The code at a guest-physical and linear address.
#[derive(Clone, Copy)]
struct Found {
    gpa: u64,
    rip: u64,
    code: u64,
}

impl Found {
    const NOTHING: Self = Found { gpa: u64::MAX, rip: 0, code: 0 };
}

/// The translated code of one processor.
pub struct Translator {
    arena: CodeMemory,
    share: CodeShare,
    /// Boxed: translated code knows where it is.
    pub(crate) context: Box<Context>,
    pages: Pages,
    pub(crate) maker: BlockMaker,
    links: Links,
    sites: Sites,
    dropped: Dropped,
    pub(crate) items: Vec<Item>,
    /// How often all code was forgotten.
    clears: u64,
    /// The page at RIP has to be compared with memory.
    compare: bool,
    /// Tier 0 has to execute the block at RIP.
    interpret: bool,
    /// The code of a twin at RIP: it goes on there.
    twin: Option<u64>,
    /// How often code has been looked for in vain, by guest-physical address.
    heat: Box<[u8]>,
    /// Where no block can begin, by guest-physical address and epoch of code: the instruction there
    /// crosses the end of its page.
    pub(crate) crossings: Box<[(u64, u32)]>,
    /// What was found last, by both addresses. Code that was dropped since leaves at once.
    found: Box<[Found]>,
    /// How often that is to be before it is translated.
    patience: u8,
    /// Code was written since the processor last serialized.
    stale: bool,
    /// The instructions of each block, and callouts have blocks of their own.
    pub(crate) stretches: Option<Stretches>,
}

impl Translator {
    /// Without code; instructions are counted in `executed`, and tier 0 executes each block about
    /// `patience` times, see [`PATIENCE`]. Code takes as much memory as `limit` has for one of those
    /// that share it. None: there is no memory for it.
    #[must_use]
    pub fn new(executed: Arc<Executed>, patience: u8, limit: &Arc<CodeLimit>) -> Option<Self> {
        Some(Translator {
            arena: CodeMemory::new(c"kvmshim-translated", limit.bytes()).ok()?,
            share: limit.join(),
            context: Box::new(Context::new(executed)),
            pages: Pages::default(),
            maker: BlockMaker::new(),
            links: Links::default(),
            sites: Sites::default(),
            dropped: Dropped::default(),
            items: Vec::new(),
            clears: 0,
            heat: vec![0; COUNTERS].into(),
            crossings: vec![(u64::MAX, 0); CROSSINGS].into(),
            found: vec![Found::NOTHING; FOUND].into(),
            patience,
            compare: false,
            interpret: false,
            twin: None,
            stale: false,
            stretches: None,
        })
    }

    /// Executes until something needs the caller, or `kick` is not zero.
    pub fn run(&mut self, interp: &mut Interp, kick: &AtomicU32) -> Outcome {
        // The processor may be elsewhere by now: an event was delivered, or registers were set.
        self.twin = None;
        loop {
            if let Some(outcome) = self.run_some(interp, kick) {
                return outcome;
            }
            if kick.load(Ordering::Relaxed) != 0 {
                return Outcome::Boundary;
            }
        }
    }

    fn run_some(&mut self, interp: &mut Interp, kick: &AtomicU32) -> Option<Outcome> {
        let twin = self.twin.take();
        if interp.cpu.attention {
            // The delivery of an event has stored something.
            return interp.after_attention();
        }
        self.follow(interp);
        if std::mem::take(&mut self.interpret) || !is_translatable(&interp.cpu) {
            return interp.run_one_block();
        }
        let rip = interp.cpu.arch.rip();
        let compare = std::mem::take(&mut self.compare);
        let known = match compare {
            true => None,
            false => twin.or_else(|| self.context.jumps(&interp.cpu).find(rip)),
        };
        let Some(code) = known.or_else(|| self.find(interp, rip, compare)) else {
            return interp.run_one_block();
        };
        self.serialize_if_stale();
        let left = self.enter(interp, kick, code);
        self.after(interp, left)
    }

    /// Executes code until it leaves; what it has left through, as [`enter`] returns it.
    pub(crate) fn enter(&mut self, interp: &mut Interp, kick: &AtomicU32, code: u64) -> u64 {
        let left = enter(&mut self.context, &mut interp.cpu, kick, code);
        if let Some(link) = self.links.get(left)
            && let Some((_, page)) = self.pages.key_of(link.page)
        {
            interp.cpu.arch.set_rip(page | u64::from(link.offset));
        }
        left
    }

    /// Forgets what is no longer so.
    pub(crate) fn follow(&mut self, interp: &mut Interp) {
        if interp.take_dropped(&mut self.dropped) {
            self.forget_dropped();
        }
        self.context.follow_flushes(&mut interp.cpu);
    }

    fn serialize_if_stale(&mut self) {
        if std::mem::take(&mut self.stale) {
            serialize();
        }
    }

    /// The block at RIP and its code, for who executes block by block; None if there is none.
    pub(crate) fn block_at(&mut self, interp: &mut Interp, rip: u64) -> Option<(At, u64)> {
        let (_, block) = self.find_block(interp, rip, false)?;
        let code = self.arena.entry(block.guarded as usize)?.expose_provenance() as u64;
        self.serialize_if_stale();
        Some((block.guarded, code))
    }

    /// What the block was made from, for who executes block by block.
    pub(crate) fn items(&self, block: At) -> &[Item] {
        self.stretches
            .as_ref()
            .and_then(|stretches| stretches.get(&block))
            .map_or(&[], |items| items)
    }

    /// The code of the twin to which translated code has left through `link`, if it has.
    pub(crate) fn twin_behind(&mut self, interp: &mut Interp, link: u64) -> Option<u64> {
        if !self.links.get(link)?.twin {
            return None;
        }
        self.link(interp, link);
        self.twin.take()
    }

    /// After translated code has left.
    pub(crate) fn after(&mut self, interp: &mut Interp, link: u64) -> Option<Outcome> {
        if let Some(panic) = self.context.panic.take() {
            resume_unwind(panic);
        }
        if let Some(stop) = self.context.stop.take() {
            return interp.after_stop(stop);
        }
        if interp.cpu.attention {
            return interp.after_attention();
        }
        if link == u64::from(STALE) {
            self.compare = true;
        } else if link == u64::from(INTERPRET) {
            self.interpret = true;
        } else if link != 0 {
            self.link(interp, link);
        }
        None
    }

    /// Links the branch through which translated code has left for RIP, if its target can be found.
    fn link(&mut self, interp: &mut Interp, number: u64) {
        let rip = interp.cpu.arch.rip();
        let Some(link) = self.links.get(number) else { return };
        let Link { twin, place, state, loaded, .. } = link;
        let from = self.pages.key_of(link.page);
        let before = self.clears;
        let found = self.find_block(interp, rip, twin);
        if twin {
            let entry = found.and_then(|(_, block)| self.arena.entry(block.guarded as usize));
            self.twin = entry.map(|entry| entry.expose_provenance() as u64);
            self.interpret = self.twin.is_none();
        }
        let Some((page, block)) = found else { return };
        // A block that was made may have taken the place of all others.
        if self.clears != before {
            return;
        }
        if from == Some(page) {
            self.arena.link(place as usize, block.entry(state, loaded) as usize);
            self.stale = true;
        }
    }

    fn forget_dropped(&mut self) {
        if std::mem::take(&mut self.dropped.all) {
            self.clear();
        }
        let Self { dropped, pages, heat, patience, .. } = self;
        let cooler = patience.saturating_sub(PATIENCE_AGAIN);
        for page in dropped.pages.drain(..) {
            // What is patched over and over is left to tier 0.
            pages.drop_page(page, |gpa| heat[counter(gpa)] = cooler);
        }
    }

    fn clear(&mut self) {
        self.clears += 1;
        self.twin = None;
        self.arena.truncate(0);
        self.found.fill(Found::NOTHING);
        self.pages.clear();
        self.links.clear();
        self.sites.clear();
        if let Some(stretches) = &mut self.stretches {
            stretches.clear();
        }
        self.context.forget_jumps();
    }

    /// Bytes that all code takes, with what is known about it.
    fn footprint(&self) -> usize {
        self.arena.footprint()
            + self.sites.footprint()
            + self.links.footprint()
            + self.pages.footprint()
    }

    /// The code at RIP; None if tier 0 has to execute there.
    #[cold]
    fn find(&mut self, interp: &mut Interp, rip: u64, compare: bool) -> Option<u64> {
        let fetched = interp.fetch().ok()?;
        let gpa = fetched.gpa;
        let place = (gpa ^ rip >> 12 ^ rip >> 24) as usize % FOUND;
        let known = Some(self.found[place]).filter(|known| known.gpa == gpa && known.rip == rip);
        let code = match known {
            Some(Found { code, .. }) if !compare && !fetched.new => code,
            _ => {
                let (_, block) = self.find_fetched(interp, rip, false, fetched)?;
                let code = self.arena.entry(block.guarded as usize)?.expose_provenance() as u64;
                if known.is_none_or(|known| known.code != code) {
                    self.found[place] = Found { gpa, rip, code };
                    self.pages.enter(gpa, Entered { rip, code });
                }
                code
            }
        };
        let cpu = &interp.cpu;
        let global = cpu.memory.tlb.is_global(cpu.mode.fetch_privilege, rip);
        let jumps = self.context.jumps(cpu);
        if !jumps.may_have_page(rip) {
            for &Entered { rip, code } in self.pages.entered(gpa, rip) {
                jumps.insert(rip, code, global);
            }
        }
        jumps.insert(rip, code, global);
        Some(code)
    }

    fn find_block(
        &mut self,
        interp: &mut Interp,
        rip: u64,
        twin: bool,
    ) -> Option<(PageKey, Block)> {
        let fetched = interp.fetch().ok()?;
        self.find_fetched(interp, rip, twin, fetched)
    }

    fn find_fetched(
        &mut self,
        interp: &mut Interp,
        rip: u64,
        twin: bool,
        fetched: Fetched,
    ) -> Option<(PageKey, Block)> {
        let Fetched { gpa, page, new } = fetched;
        let epoch = interp.cpu.code_epoch;
        if let Some(granules) = self.pages.unseen(gpa, rip, epoch) {
            interp.cpu.memory.mark_code(gpa, page, granules);
            self.pages.compare(gpa, rip, page, epoch);
        } else if new {
            // It has the marks of this epoch.
            self.pages.compare(gpa, rip, page, epoch);
        }
        if let Some(block) = self.pages.find(gpa, rip, twin, epoch) {
            return Some((key(gpa, rip), block));
        }
        let crossing = crossing_index(gpa);
        if self.crossings[crossing] == (gpa, epoch) || self.is_cold(gpa, twin) {
            return None;
        }
        interp.make_room();
        if interp.take_dropped(&mut self.dropped) {
            self.forget_dropped();
        }
        if self.arena.room() < SPARE || self.footprint() + SPARE > self.share.bytes() {
            self.clear();
            self.arena.release();
        }
        let block = self.translate(interp, gpa, rip, twin, page)?;
        Some((key(gpa, rip), block))
    }

    /// Counts. Blocks may share a counter: then they are translated sooner.
    fn is_cold(&mut self, gpa: u64, twin: bool) -> bool {
        let (gpa, patience) = match twin {
            true => (gpa ^ TWIN_HEAT, self.patience * TWIN_PATIENCE),
            false => (gpa, self.patience),
        };
        let count = &mut self.heat[counter(gpa)];
        let cold = *count < patience;
        *count += u8::from(cold);
        cold
    }

    fn translate(
        &mut self,
        interp: &mut Interp,
        gpa: u64,
        rip: u64,
        twin: bool,
        page: HostPage,
    ) -> Option<Block> {
        let start = gpa as usize % PAGE_SIZE;
        let mut bytes = [0; MAX_ITEMS * MAX_LEN];
        let available = bytes.len().min(PAGE_SIZE - start);
        page.copy_out(start, &mut bytes[..available]);
        let all = match self.decode(interp, rip, &bytes[..available]) {
            Some(len) => len,
            None => self.decode_crossing(interp, gpa, &mut bytes, available)?,
        };
        let len = all.min(available);
        let (bytes, all) = (&bytes[..len], &bytes[..all]);
        interp.cpu.memory.mark_code(gpa, page, granules(gpa, len));
        if !page.has(start, bytes) {
            return None;
        }
        let seen = self.pages.seen(gpa, rip, interp.cpu.code_epoch);
        let number = self.pages.number(gpa, rip)?;
        self.maker.first_link = self.links.next();
        let Translator { maker, sites, items, stretches, .. } = self;
        let alone = stretches.is_some();
        // A twin has to end where the block does.
        let cut = alone && items.len() == MAX_ITEMS;
        let grouped = !(twin || cut);
        let made = maker.make(rip, all, items, seen, sites, Manner { alone, grouped });
        let (at, far) = self.place(made.apart)?;
        self.stale = true;
        self.links.add(number, self.maker.links.drain(..), |place| {
            if place < made.apart { at } else { far }.wrapping_add(place as At)
        });
        let block = Block {
            host: at + made.host_entry as At,
            frame: at + made.frame_entry as At,
            both: at + made.entry as At,
            checked: (at + made.checked.host as At, at + made.checked.frame as At),
            wanted: made.wanted,
            guarded: at + made.guarded as At,
        };
        self.pages.insert(gpa, rip, twin, bytes, block, page);
        if let Some(stretches) = &mut self.stretches {
            stretches.insert(block.guarded, self.items.drain(..).collect());
        }
        Some(block)
    }

    /// Puts the code of a block into the arena, that from `apart` on apart. Returns where it starts, and
    /// what is to be added, with a carry that is lost, to places in the latter.
    fn place(&mut self, apart: usize) -> Option<(At, At)> {
        let code = &mut self.maker.emitter.code;
        let at = self.arena.used();
        let far = self.arena.next_apart(code.position() - apart)?;
        code.move_apart(apart, far as i64 - (at + apart) as i64);
        let (near, rest) = code.code().split_at(apart);
        self.arena.push_apart(rest)?;
        Some((self.arena.push(near)? as At, (far as At).wrapping_sub(apart as At)))
    }
}

/// Number of the counter of a guest-physical address.
fn counter(gpa: u64) -> usize {
    (gpa ^ gpa >> 14) as usize % COUNTERS
}
