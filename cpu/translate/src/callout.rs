//! Leaving translated code for one instruction of tier 0, and what the translator and translated
//! code share.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cpu_interp::op::Op;
use cpu_interp::state::Shadow;
use cpu_interp::{Cpu, Executed, Stop};
use cpu_mmu::{Flushed, Privilege};

use crate::frame::Frame;
use crate::jump_cache::JumpCache;
use crate::pages::INTERPRET;
use crate::registers::{Registers, grant};
use crate::x87::Noted;

/// An instruction of translated code.
pub(crate) struct Site {
    /// How tier 0 executes it.
    pub op: Op,
    /// Its linear address.
    pub rip: u64,
    /// It ends its block.
    pub last: bool,
    /// Instructions that follow in its block.
    pub rest: u16,
    /// The one before is STI: it is in its shadow.
    pub shadowed: bool,
    /// What is to be loaded behind it.
    pub loaded: Registers,
}

/// Where a [`Site`] is in memory, as translated code has it.
pub(crate) type SiteAddress = u64;

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Behind the instruction.
    Continue,
    /// In Rust.
    Leave,
    /// At this address of translated code.
    Jump(u64),
}

/// Process-context identifiers whose jumps are kept besides the active one's, as by [`cpu_mmu::Tlb`].
const MAX_PARKED: usize = 7;

/// What translated code and the translator share.
pub(crate) struct Context {
    user: JumpCache,
    /// The identifier that `user` belongs to.
    pcid: u16,
    /// Those of other identifiers, least recently used first.
    parked: Vec<(u16, JumpCache)>,
    supervisor: JumpCache,
    /// Where instructions are counted.
    pub executed: Arc<Executed>,
    /// The processor, while translated code runs.
    pub cpu: *mut Cpu,
    /// Why the last instruction did not complete.
    pub stop: Option<Stop>,
    /// What it panicked with.
    pub panic: Option<Box<dyn Any + Send>>,
    /// What x87 has executed.
    pub noted: Noted,
}

/// Whether translated code may execute the next instruction.
pub(crate) fn is_translatable(cpu: &Cpu) -> bool {
    cpu.mode.code64 && !cpu.is_single_stepped()
}

impl Context {
    pub(crate) fn new(executed: Arc<Executed>) -> Self {
        Context {
            user: JumpCache::new(),
            pcid: 0,
            parked: Vec::new(),
            supervisor: JumpCache::new(),
            executed,
            cpu: std::ptr::null_mut(),
            stop: None,
            panic: None,
            noted: Noted::default(),
        }
    }

    /// Jumps of the present privilege.
    #[inline]
    pub(crate) fn jumps(&mut self, cpu: &Cpu) -> &mut JumpCache {
        match cpu.mode.fetch_privilege {
            Privilege::User => &mut self.user,
            _ => &mut self.supervisor,
        }
    }

    /// Forgets the jumps to addresses that may be translated otherwise now.
    #[inline]
    pub(crate) fn follow_flushes(&mut self, cpu: &mut Cpu) {
        if let Some(flushed) = cpu.memory.tlb.take_flushed() {
            self.flush(&flushed);
        }
    }

    fn flush(&mut self, flushed: &Flushed) {
        if flushed.all || flushed.parked {
            self.parked.clear();
        }
        if let Some(pcid) = flushed.activated.filter(|&pcid| pcid != self.pcid) {
            self.activate(pcid);
        }
        self.user.flush(flushed);
        self.supervisor.flush(flushed);
        if !flushed.ranges.is_empty() {
            // Of other identifiers only global pages are flushed by address, or all of them were.
            self.parked.iter_mut().for_each(|(_, jumps)| jumps.forget_global(&flushed.ranges));
        }
    }

    fn activate(&mut self, pcid: u16) {
        self.supervisor.leave_address_space();
        let found = self.parked.iter().position(|(parked, _)| *parked == pcid);
        let jumps = match found {
            Some(at) => self.parked.remove(at).1,
            None if self.parked.len() < MAX_PARKED => JumpCache::new(),
            None => {
                let (_, mut oldest) = self.parked.remove(0);
                oldest.clear();
                oldest
            }
        };
        self.parked.push((self.pcid, std::mem::replace(&mut self.user, jumps)));
        self.pcid = pcid;
    }

    pub(crate) fn forget_jumps(&mut self) {
        self.user.clear();
        self.supervisor.clear();
        self.parked.clear();
    }

    /// Has tier 0 execute an instruction. The registers are in `cpu`, the status flags in `frame`.
    pub(crate) fn execute(&mut self, cpu: &mut Cpu, frame: &mut Frame, site: &Site) -> Next {
        frame.give_flags(cpu);
        let next = site.rip.wrapping_add(u64::from(site.op.len));
        cpu.arch.set_rip(next);
        let shadow = match site.shadowed {
            true => std::mem::take(&mut cpu.arch.shadow),
            false => Shadow::None,
        };
        // Translated code cannot be unwound.
        match catch_unwind(AssertUnwindSafe(|| (site.op.run)(cpu, &site.op))) {
            Ok(Ok(())) => {}
            Ok(Err(stop)) => {
                if !cpu.task_switched {
                    cpu.arch.set_rip(site.rip);
                }
                if shadow != Shadow::None && !matches!(stop, Stop::Fault(_)) {
                    cpu.arch.shadow = shadow;
                }
                frame.take_back(u64::from(site.rest) + 1);
                self.stop = Some(stop);
                return Next::Leave;
            }
            Err(panic) => {
                self.panic = Some(panic);
                return Next::Leave;
            }
        }
        // Behind the shadow an interrupt may be taken.
        cpu.attention |= shadow != Shadow::None && cpu.watch_interrupt_flag;
        if cpu.attention {
            cpu.attention_rip = site.rip;
            frame.take_back(site.rest.into());
            return Next::Leave;
        }
        let here = cpu.arch.rip() == next
            && !site.last
            && is_translatable(cpu)
            && u64::from(cpu.code_epoch) == frame.epoch
            && !cpu.memory.tlb.has_flushed();
        if here {
            let jumps = self.jumps(cpu).entries();
            frame.refresh(cpu, jumps);
            if site.loaded == Registers::NONE {
                return Next::Continue;
            }
            let Some(loaded) = grant(cpu, site.loaded) else {
                frame.take_back(site.rest.into());
                frame.link = INTERPRET.into();
                return Next::Leave;
            };
            frame.set_loaded(loaded);
            return Next::Continue;
        }
        frame.take_back(site.rest.into());
        self.jump(cpu, frame)
    }

    /// Goes on at RIP, if that is known.
    fn jump(&mut self, cpu: &mut Cpu, frame: &mut Frame) -> Next {
        if !is_translatable(cpu) || kicked(frame) {
            return Next::Leave;
        }
        self.follow_flushes(cpu);
        let jumps = self.jumps(cpu);
        let Some(host) = jumps.find(cpu.arch.rip()) else {
            return Next::Leave;
        };
        let entries = jumps.entries();
        frame.refresh(cpu, entries);
        Next::Jump(host)
    }
}

fn kicked(frame: &Frame) -> bool {
    crate::enter::kick_word(frame).is_none_or(|word: &AtomicU32| word.load(Ordering::Relaxed) != 0)
}
