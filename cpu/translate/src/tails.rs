//! What is seldom executed of a block.

use crate::assemble::{R10, RCX};
use crate::block::{BlockMaker, LinkPlace};
use crate::emit::{Present, Tail, Way};
use crate::flags::FlagState;

impl BlockMaker {
    /// Branches of a condition out of the midst of the block, or to other pages.
    pub(crate) fn sides(&mut self) {
        let mut others = Vec::new();
        for Tail { from, state, way } in std::mem::take(&mut self.emitter.tails) {
            let Way::Side { target, rest, loaded } = way else {
                others.push(Tail { from, state, way });
                continue;
            };
            let emitter = &mut self.emitter;
            emitter.code.here(from);
            emitter.state = state;
            if rest != 0 {
                emitter.count(-(rest as i32));
            }
            if target & !0xFFF == self.page {
                let from = emitter.code.jump();
                emitter.tail(from, Way::Edge { target, loaded });
            } else {
                emitter.far_jump(target, false);
            }
        }
        self.emitter.tails.append(&mut others);
    }

    /// The rest. More may come while it is made.
    pub(crate) fn tails(&mut self) {
        while !self.emitter.tails.is_empty() {
            for Tail { from, state, way } in std::mem::take(&mut self.emitter.tails) {
                self.emitter.code.here(from);
                self.emitter.state = state;
                match way {
                    Way::Edge { target, loaded } => {
                        let number = self.first_link + self.links.len() as u32;
                        let place = from.position();
                        self.links.push(LinkPlace { place, target, state, loaded, twin: false });
                        self.emitter.leave_linked(number);
                    }
                    Way::Twin(present) => self.twin(present),
                    way => self.tail(way),
                }
            }
        }
    }

    fn tail(&mut self, way: Way) {
        let emitter = &mut self.emitter;
        match way {
            Way::Edge { .. } | Way::Side { .. } | Way::Twin(_) => {}
            Way::Slow { site, back, behind, last } => emitter.slow(site, back, behind, last),
            Way::OtherPage { back, slot, group, aligned, present } => {
                let from = emitter.look_elsewhere(slot, group.len, group.write, aligned);
                emitter.code.jump_to(back);
                emitter.tail(from, Way::Twin(present));
            }
            Way::OtherStackPage { look, missed } => {
                let from = emitter.find_stack_page(look);
                emitter.tail(from, *missed);
            }
            Way::OtherJump { back, site } => emitter.find_other_jump(back, site),
            Way::OtherFarJump { entry } => {
                let from = emitter.jump_through(entry);
                emitter.tail(from, Way::Exit);
            }
            Way::Exit => emitter.exit(),
            Way::ExitFor { target } => emitter.exit_for(target),
            Way::ExitWithCount { target } => {
                emitter.code.mov(RCX, R10);
                emitter.exit_for(target);
            }
            Way::ExitBefore(present) => emitter.exit_before(present),
            Way::Interpret { rip } => emitter.leave_to_interpret(rip),
            Way::InterpretRest(Present { rip, rest, .. }) => {
                emitter.count(-(rest as i32 + 1));
                emitter.leave_to_interpret(rip);
            }
            Way::Stale { rip } => emitter.leave_stale(rip),
        }
    }

    fn twin(&mut self, Present { rip, rest, loaded }: Present) {
        let emitter = &mut self.emitter;
        emitter.save_flags();
        emitter.state = FlagState::FRAME;
        emitter.count(-(rest as i32 + 1));
        let place = emitter.code.jump();
        emitter.code.here(place);
        let number = self.first_link + self.links.len() as u32;
        let state = FlagState::FRAME;
        let place = place.position();
        self.links.push(LinkPlace { place, target: rip, state, loaded, twin: true });
        emitter.leave_linked(number);
    }
}
