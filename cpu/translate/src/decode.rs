//! Which instructions make a block.

use cpu_interp::Interp;
use cpu_mem::PAGE_SIZE;
use iced_x86::{Decoder, Mnemonic};

use crate::block::BlockMaker;
use crate::effects::{Item, Kind, item};
use crate::kick::may_close_loop;
use crate::lockstep::{flags_read, is_copied, undefined_behind};
use crate::translator::Translator;

/// Most instructions in a block.
pub(crate) const MAX_ITEMS: usize = 64;
/// Most branches out of its midst.
const MAX_SIDES: usize = 3;
/// Longest instruction in bytes.
pub(crate) const MAX_LEN: usize = 15;
/// Instructions across pages that are remembered.
pub(crate) const CROSSINGS: usize = 256;

impl Translator {
    /// A block does not end with this branch: it is more often not taken.
    fn goes_on(&self, item: &Item) -> bool {
        let before = self.items.iter().filter(|item| item.kind == Kind::JumpIf).count();
        item.kind == Kind::JumpIf && !may_close_loop(item) && before < MAX_SIDES
    }

    /// Behind a branch: it uses registers that nothing before does, which would be loaded for those who take
    /// the branch, too.
    fn wants_more(&self, item: &Item) -> bool {
        let branches = self.items.iter().any(|item| item.kind == Kind::JumpIf);
        branches && item.used.is_some() && self.items.iter().all(|item| item.used.is_none())
    }

    /// Decodes a block into `items`; its length in bytes.
    pub(crate) fn decode(&mut self, interp: &mut Interp, rip: u64, bytes: &[u8]) -> Option<usize> {
        self.items.clear();
        let (mut at, mut undefined) = (0, 0);
        while self.items.len() < MAX_ITEMS && at < bytes.len() {
            let rest = &bytes[at..bytes.len().min(at + MAX_LEN)];
            let Some((op, last)) = interp.decode(rest) else { break };
            let options = interp.cpu.features.decoder_options();
            let mut decoder = Decoder::with_ip(64, rest, rip.wrapping_add(at as u64), options);
            let instruction = decoder.decode();
            let features = &interp.cpu.features;
            let mut item = item(&mut self.maker.infos, instruction, op, last, at, features);
            if instruction.is_invalid() || instruction.len() != usize::from(op.len) {
                item.kind = Kind::Callout;
                item.instruction.set_len(usize::from(op.len));
            }
            if self.items.last().is_some_and(is_sti) {
                item.shadowed = true;
                if !BlockMaker::may_be_shadowed(item.kind) {
                    item.kind = Kind::Callout;
                }
            }
            // What follows STI belongs to it: no interrupt comes between.
            item.last &= !is_sti(&item) && !matches!(item.kind, Kind::System(_) | Kind::Read(_));
            let lockstep = self.stretches.is_some();
            let alone = lockstep && !is_copied(&item);
            let unclear = lockstep && flags_read(&item.instruction) & undefined != 0;
            if (alone || unclear) && !self.items.is_empty() || self.wants_more(&item) {
                break;
            }
            if lockstep {
                undefined = undefined_behind(undefined, &item.instruction);
            } else if self.goes_on(&item) {
                item.last = false;
            }
            let last = item.last;
            self.items.push(item);
            at += usize::from(op.len);
            if last || alone {
                break;
            }
        }
        if let Some(item) = self.items.last_mut().filter(|item| is_sti(item)) {
            (item.kind, item.last) = (Kind::Callout, true);
        }
        (at > 0).then_some(at)
    }

    /// Decodes the instruction at RIP, of which the first `available` bytes are in its page, into `items`
    /// and `bytes`; its length in bytes. None: nothing is known of the next page, or there is none.
    pub(crate) fn decode_crossing(
        &mut self,
        interp: &mut Interp,
        gpa: u64,
        bytes: &mut [u8],
        available: usize,
    ) -> Option<usize> {
        let (rip, epoch) = (interp.cpu.arch.rip(), interp.cpu.code_epoch);
        if available < MAX_LEN {
            let cpu = &interp.cpu;
            let second = rip.wrapping_add(available as u64);
            let page = cpu.memory.tlb.execute(cpu.mode.fetch_privilege, second)?;
            page.copy_out(0, &mut bytes[available..MAX_LEN]);
            let len = self.decode(interp, rip, &bytes[..MAX_LEN]);
            let item = self.items.first_mut().filter(|item| !is_sti(item));
            if let (Some(_), Some(item)) = (len, item) {
                item.crosses = true;
                self.items.truncate(1);
                return Some(self.items[0].instruction.len());
            }
        }
        self.crossings[crossing_index(gpa)] = (gpa, epoch);
        None
    }
}

/// Nearly all begin in the last bytes of their pages.
pub(crate) fn crossing_index(gpa: u64) -> usize {
    ((gpa / PAGE_SIZE as u64) ^ (gpa << 4)) as usize % CROSSINGS
}

fn is_sti(item: &Item) -> bool {
    item.instruction.mnemonic() == Mnemonic::Sti
}
