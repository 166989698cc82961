//! Whose processor guests see: the host's vendor, until `set_personality` says otherwise.

use std::sync::atomic::{AtomicBool, Ordering};

use cpu_engine::Personality;

/// The personality of VSs that are created from now on, and of the supported lists.
#[derive(Debug)]
pub struct Chosen {
    amd: AtomicBool,
}

impl Default for Chosen {
    fn default() -> Chosen {
        Chosen { amd: AtomicBool::new(Personality::of_host() == Personality::Amd) }
    }
}

impl Chosen {
    /// The present one.
    pub fn get(&self) -> Personality {
        if self.amd.load(Ordering::Relaxed) { Personality::Amd } else { Personality::Intel }
    }

    /// Chooses another.
    pub fn set(&self, personality: Personality) {
        self.amd.store(personality == Personality::Amd, Ordering::Relaxed);
    }
}
