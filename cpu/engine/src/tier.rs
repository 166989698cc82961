//! Which tier executes: the translator (`cpu-translate`), or tier 0 (`cpu-interp`) alone.

use std::sync::OnceLock;

use cpu_interp::{Interp, Outcome};
use cpu_translate::Translator;

use crate::{Kick, Vcpu};

/// 0 turns the translator off.
const VARIABLE: &str = "KVMSHIM_TIER";

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
    pub(crate) fn run(&mut self, interp: &mut Interp, kick: &Kick) -> Outcome {
        if let Tier::Unknown = self {
            *self = Self::choose(interp);
        }
        match self {
            Tier::Translated(translator) => translator.run(interp, kick.word()),
            _ => interp.run(|| kick.any()),
        }
    }

    fn choose(interp: &Interp) -> Self {
        static WANTED: OnceLock<bool> = OnceLock::new();
        let wanted = WANTED.get_or_init(|| std::env::var(VARIABLE).as_deref() != Ok("0"));
        Self::of(*wanted, interp)
    }

    fn of(translated: bool, interp: &Interp) -> Self {
        let translator = if translated { Translator::new(interp.executed()) } else { None };
        translator.map_or(Tier::Interpreted, |translator| Tier::Translated(Box::new(translator)))
    }
}

impl Vcpu {
    /// Executes through the translator from now on, or through tier 0 alone. Without a call the
    /// environment decides.
    pub fn set_translated(&mut self, translated: bool) {
        self.tier = Tier::of(translated, &self.interp);
    }
}
