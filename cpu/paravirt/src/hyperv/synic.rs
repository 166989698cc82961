//! The synthetic interrupt controller and its timers: layouts of messages and configuration words.
//!
//! TLFS, "Virtual Interrupt Controller" and "Timers"; `include/asm-generic/hyperv-tlfs.h`.

/// Sources of a controller.
pub const SINTS: usize = 16;
/// Timers of a processor.
pub const TIMERS: usize = 4;
/// HV_X64_MSR_SVERSION.
pub const VERSION: u64 = 1;
/// In HV_X64_MSR_SCONTROL.
pub const CONTROL_ENABLED: u64 = 1;

/// In HV_X64_MSR_SINT0 and its like: nothing comes.
pub const SINT_MASKED: u64 = 1 << 16;
/// In HV_X64_MSR_SINT0 and its like: interrupts need no end.
pub const SINT_AUTO_EOI: u64 = 1 << 17;
/// In HV_X64_MSR_SINT0 and its like: messages come without an interrupt.
pub const SINT_POLLED: u64 = 1 << 18;
/// Lower vectors are the processor's.
pub const FIRST_VECTOR: u8 = 16;

/// Bytes of a source's message in the page of messages.
pub const MESSAGE_SIZE: u64 = 256;
/// Where the type is, 32 bits; 0: there is no message.
pub const MESSAGE_TYPE: usize = 0;
/// Where the flags are, 8 bits.
pub const MESSAGE_FLAGS: usize = 5;
/// In the flags: another message waits.
pub const MESSAGE_PENDING: u8 = 1;
/// Bytes of a timer's message.
pub const TIMER_MESSAGE_SIZE: usize = 40;
const TIMER_EXPIRED: u32 = 0x8000_0010;
const TIMER_PAYLOAD: u8 = 24;

/// The message of a timer that has expired; times are reference times.
#[must_use]
pub fn timer_message(timer: u32, expiration: u64, delivery: u64) -> [u8; TIMER_MESSAGE_SIZE] {
    let mut bytes = [0; TIMER_MESSAGE_SIZE];
    bytes[..4].copy_from_slice(&TIMER_EXPIRED.to_le_bytes());
    bytes[4] = TIMER_PAYLOAD;
    bytes[16..20].copy_from_slice(&timer.to_le_bytes());
    bytes[24..32].copy_from_slice(&expiration.to_le_bytes());
    bytes[32..].copy_from_slice(&delivery.to_le_bytes());
    bytes
}

/// In the assist page of a processor, 8 bits: the timer of unhalted time has expired.
pub const UNHALTED_TIMER_EXPIRED: u64 = 56;

/// HV_X64_MSR_STIMER0_CONFIG and its like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerConfig(pub u64);

impl TimerConfig {
    const ENABLED: u64 = 1;

    /// It runs.
    #[must_use]
    pub const fn is_enabled(self) -> bool {
        self.0 & Self::ENABLED != 0
    }

    /// The same, running or not.
    #[must_use]
    pub const fn with_enabled(self, enabled: bool) -> Self {
        TimerConfig(self.0 & !Self::ENABLED | enabled as u64)
    }

    /// The count is a period, not a time.
    #[must_use]
    pub const fn is_periodic(self) -> bool {
        self.0 >> 1 & 1 != 0
    }

    /// A count that is not 0 makes it run.
    #[must_use]
    pub const fn is_auto_enabled(self) -> bool {
        self.0 >> 3 & 1 != 0
    }

    /// For [`Self::is_direct`].
    #[must_use]
    pub const fn vector(self) -> u8 {
        (self.0 >> 4) as u8
    }

    /// It sends an interrupt, no message.
    #[must_use]
    pub const fn is_direct(self) -> bool {
        self.0 >> 12 & 1 != 0
    }

    /// The source of its messages.
    #[must_use]
    pub const fn sint(self) -> u8 {
        (self.0 >> 16 & 0xF) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hv_09_a_message_has_the_layout_of_the_specification() {
        let message = timer_message(3, 0x1122, 0x3344);
        assert_eq!(message[..8], [0x10, 0, 0, 0x80, 24, 0, 0, 0]);
        assert_eq!(message[16..24], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((message[24], message[32]), (0x22, 0x44));
    }

    #[test]
    fn hv_09_a_configuration_has_its_fields() {
        let config = TimerConfig(0x5_1FF0 | 0b1010);
        assert!(!config.is_enabled() && config.is_periodic() && config.is_auto_enabled());
        assert!(config.is_direct());
        assert_eq!((config.vector(), config.sint()), (0xFF, 5));
        assert_eq!(config.with_enabled(true).0, config.0 | 1);
        assert_eq!(config.with_enabled(true).with_enabled(false), config);
    }
}
