//! Which tier executes: the translator (`cpu-translate`), or tier 0 (`cpu-interp`) alone.

use std::sync::{Arc, OnceLock};

use cpu_interp::{Interp, Outcome};
use cpu_translate::{CodeLimit, Lockstep, PATIENCE, Translator};

use crate::{Kick, Vcpu};

/// 0 turns the translator off; 1 has it translate everything, not only what runs often; `lockstep` has
/// tier 0 execute the same and compares, for virtual machines with one processor.
const VARIABLE: &str = "KVMSHIM_TIER";

/// What [`VARIABLE`] says.
#[derive(Clone, Copy)]
enum Wanted {
    Interpreted,
    Translated,
    Mixed,
    Lockstep,
}

/// What executes one vCPU's instructions.
#[derive(Default)]
pub(crate) enum Tier {
    /// Nothing was executed yet.
    #[default]
    Unknown,
    /// Tier 0.
    Interpreted,
    /// Tier 1, with tier 0 for what it leaves out.
    Translated(Box<Translator>),
    /// Both, and they have to agree.
    Lockstep(Box<Lockstep>),
}

impl Tier {
    /// Executes until something needs the caller; the kick is looked at now and then.
    pub(crate) fn run(
        &mut self,
        interp: &mut Interp,
        kick: &Kick,
        limit: &Arc<CodeLimit>,
    ) -> Outcome {
        if let Tier::Unknown = self {
            *self = Self::choose(interp, limit);
        }
        match self {
            Tier::Translated(translator) => translator.run(interp, kick.word()),
            Tier::Lockstep(both) => both.run(interp, kick.word()),
            _ => interp.run(|| kick.any()),
        }
    }

    fn choose(interp: &mut Interp, limit: &Arc<CodeLimit>) -> Self {
        static WANTED: OnceLock<Wanted> = OnceLock::new();
        let wanted = WANTED.get_or_init(|| match std::env::var(VARIABLE).as_deref() {
            Ok("0") => Wanted::Interpreted,
            Ok("1") => Wanted::Translated,
            Ok("lockstep") => Wanted::Lockstep,
            _ => Wanted::Mixed,
        });
        Self::of(*wanted, interp, limit)
    }

    fn of(wanted: Wanted, interp: &mut Interp, limit: &Arc<CodeLimit>) -> Self {
        let patience = match wanted {
            Wanted::Interpreted => return Tier::Interpreted,
            Wanted::Translated => 0,
            Wanted::Mixed => PATIENCE,
            Wanted::Lockstep => {
                let both = Lockstep::new(interp.executed(), limit);
                return both.map_or(Tier::Interpreted, |both| Tier::Lockstep(Box::new(both)));
            }
        };
        let Some(translator) = Translator::new(interp.executed(), patience, limit) else {
            return Tier::Interpreted;
        };
        interp.keep_few_blocks();
        Tier::Translated(Box::new(translator))
    }
}

impl Vcpu {
    /// Executes through the translator alone from now on, as far as it can, or through tier 0 alone.
    /// Without a call the environment decides.
    pub fn set_translated(&mut self, translated: bool) {
        let wanted = if translated { Wanted::Translated } else { Wanted::Interpreted };
        self.tier = Tier::of(wanted, &mut self.interp, &self.code_limit);
    }

    /// Executes through both tiers from now on, and panics where they do not agree.
    pub fn set_lockstep(&mut self) {
        self.tier = Tier::of(Wanted::Lockstep, &mut self.interp, &self.code_limit);
    }
}
