//! mv_mp_state_t of a VS.
//!
//! MicroV allows some transitions only (initial, running and wait among each other; initial to init;
//! init to sipi; sipi to running). A root that serves KVM_SET_MP_STATE must be able to restore any
//! state, so every transition is accepted here. Coming to `init` resets the VS, as in MicroV. HLT leaves
//! a VS running: the root decides what a halted vCPU waits for.

use crate::abi::mp_state as abi;

/// What a VS waits for, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum MpState {
    /// Created, never run. With a local APIC it waits for INIT.
    Initial = abi::mv_mp_state_t_initial,
    /// May run.
    Running = abi::mv_mp_state_t_running,
    /// Halted; run wakes it.
    Wait = abi::mv_mp_state_t_wait,
    /// Waits for SIPI; cannot be run.
    Init = abi::mv_mp_state_t_init,
    /// Has received SIPI; the next run starts it.
    Sipi = abi::mv_mp_state_t_sipi,
}

impl MpState {
    const ALL: [MpState; abi::mv_mp_state_t_invalid as usize] =
        [MpState::Initial, MpState::Running, MpState::Wait, MpState::Init, MpState::Sipi];

    /// The state with this number.
    pub fn from_number(number: u64) -> Option<MpState> {
        MpState::ALL.into_iter().find(|state| state.number() == number)
    }

    /// The processor waits for INIT or start-up.
    pub fn awaits_start(self) -> bool {
        matches!(self, MpState::Initial | MpState::Init)
    }

    /// mv_mp_state_t.
    pub fn number(self) -> u64 {
        self as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_below_invalid_is_a_state() {
        for number in 0..abi::mv_mp_state_t_invalid {
            assert_eq!(MpState::from_number(number).map(MpState::number), Some(number));
        }
        assert_eq!(MpState::from_number(abi::mv_mp_state_t_invalid), None);
    }
}
