//! Which tier executes: the translator (`cpu-translate`), or tier 0 (`cpu-interp`) alone.

use std::sync::{Arc, OnceLock};

use cpu_interp::{Interp, Outcome};
use cpu_translate::{CodeLimit, PATIENCE, Translator};

use crate::{Kick, Vcpu};

/// 0 turns the translator off; 1 has it translate everything, not only what runs often.
const VARIABLE: &str = "KVMSHIM_TIER";

/// What [`VARIABLE`] says.
#[derive(Clone, Copy)]
enum Wanted {
    Interpreted,
    Translated,
    Mixed,
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
            _ => interp.run(|| kick.any()),
        }
    }

    fn choose(interp: &Interp, limit: &Arc<CodeLimit>) -> Self {
        static WANTED: OnceLock<Wanted> = OnceLock::new();
        let wanted = WANTED.get_or_init(|| match std::env::var(VARIABLE).as_deref() {
            Ok("0") => Wanted::Interpreted,
            Ok("1") => Wanted::Translated,
            _ => Wanted::Mixed,
        });
        Self::of(*wanted, interp, limit)
    }

    fn of(wanted: Wanted, interp: &Interp, limit: &Arc<CodeLimit>) -> Self {
        let patience = match wanted {
            Wanted::Interpreted => return Tier::Interpreted,
            Wanted::Translated => 0,
            Wanted::Mixed => PATIENCE,
        };
        let translator = Translator::new(interp.executed(), patience, limit);
        translator.map_or(Tier::Interpreted, |translator| Tier::Translated(Box::new(translator)))
    }
}

impl Vcpu {
    /// Executes through the translator alone from now on, as far as it can, or through tier 0 alone.
    /// Without a call the environment decides.
    pub fn set_translated(&mut self, translated: bool) {
        let wanted = if translated { Wanted::Translated } else { Wanted::Interpreted };
        self.tier = Tier::of(wanted, &self.interp, &self.code_limit);
    }
}
