//! The 8254 timer with three channels, and the speaker port 61H that gates the third.
//!
//! Intel 8254 datasheet. Counters are not stepped: a count is computed from the time since it was
//! loaded. Channel 0 drives interrupt line 0 with one pulse a period. BCD counting is stored and
//! reported, but counts are binary.

/// Input clock in Hz.
pub const PIT_HZ: u64 = 1_193_182;
/// Shortest period of channel 0 in nanoseconds: a guest cannot ask for an interrupt storm.
const MIN_PERIOD_NS: u64 = 200_000;
const NS_PER_SECOND: u128 = 1_000_000_000;

/// How a counter's two bytes are transferred (`rw_mode`), and which byte comes next (`read_state`,
/// `write_state`, `count_latched`).
mod transfer {
    pub const LOW: u8 = 1;
    pub const HIGH: u8 = 2;
    /// Low byte of two.
    pub const LOW_FIRST: u8 = 3;
    /// High byte of two.
    pub const THEN_HIGH: u8 = 4;
}
use transfer::{HIGH, LOW, LOW_FIRST, THEN_HIGH};

/// One counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Count loaded, 1 to 65,536.
    pub count: u32,
    /// Count when it was latched.
    pub latched_count: u16,
    /// A latched count waits: which byte is read next; 0 for none.
    pub count_latched: u8,
    /// A latched status waits.
    pub status_latched: bool,
    /// Status when it was latched.
    pub status: u8,
    /// Which byte is read next.
    pub read_state: u8,
    /// Which byte is written next.
    pub write_state: u8,
    /// Low byte of a count whose high byte has not come.
    pub write_latch: u8,
    /// Access mode.
    pub rw_mode: u8,
    /// Counting mode, 0 to 5.
    pub mode: u8,
    /// BCD counting was asked for.
    pub bcd: bool,
    /// Gate input.
    pub gate: bool,
    /// Time at which counting began, in nanoseconds.
    pub load_time_ns: u64,
}

impl Channel {
    fn at_reset(number: usize) -> Self {
        Channel {
            count: 0x10000,
            latched_count: 0,
            count_latched: 0,
            status_latched: false,
            status: 0,
            read_state: 0,
            write_state: 0,
            write_latch: 0,
            rw_mode: 0,
            mode: 0xFF,
            bcd: false,
            gate: number != 2,
            load_time_ns: 0,
        }
    }

    /// Clocks since counting began.
    fn elapsed(&self, now_ns: u64) -> u64 {
        let ns = u128::from(now_ns.saturating_sub(self.load_time_ns));
        (ns * u128::from(PIT_HZ) / NS_PER_SECOND) as u64
    }

    /// The counting element.
    fn current(&self, now_ns: u64) -> u16 {
        let (elapsed, count) = (self.elapsed(now_ns), u64::from(self.count));
        let value = match self.mode {
            0 | 1 | 4 | 5 => count.wrapping_sub(elapsed),
            // Counts by two, twice a period.
            3 => count - (2 * (elapsed % count)) % count,
            _ => count - elapsed % count,
        };
        value as u16
    }

    /// The output pin.
    fn output(&self, now_ns: u64) -> bool {
        let (elapsed, count) = (self.elapsed(now_ns), u64::from(self.count));
        match self.mode {
            1 => elapsed < count,
            2 => elapsed != 0 && elapsed.is_multiple_of(count),
            3 => elapsed % count < count.div_ceil(2),
            4 | 5 => elapsed == count,
            _ => elapsed >= count,
        }
    }

    fn latch_count(&mut self, now_ns: u64) {
        if self.count_latched == 0 {
            self.latched_count = self.current(now_ns);
            self.count_latched = self.rw_mode;
        }
    }

    fn latch_status(&mut self, now_ns: u64) {
        if !self.status_latched {
            let output = u8::from(self.output(now_ns)) << 7;
            self.status = output | self.rw_mode << 4 | (self.mode & 7) << 1 | u8::from(self.bcd);
            self.status_latched = true;
        }
    }

    fn set_gate(&mut self, gate: bool, now_ns: u64) {
        if gate && !self.gate && matches!(self.mode, 1 | 2 | 3 | 5) {
            self.load_time_ns = now_ns;
        }
        self.gate = gate;
    }

    fn read(&mut self, now_ns: u64) -> u8 {
        if self.status_latched {
            self.status_latched = false;
            return self.status;
        }
        if self.count_latched != 0 {
            let [low, high] = self.latched_count.to_le_bytes();
            let (byte, next) = next_byte(self.count_latched, low, high);
            self.count_latched = if self.count_latched == LOW_FIRST { next } else { 0 };
            return byte;
        }
        let [low, high] = self.current(now_ns).to_le_bytes();
        let (byte, next) = next_byte(self.read_state, low, high);
        self.read_state = next;
        byte
    }

    /// A byte of a count. The whole count, once it is there.
    fn write(&mut self, value: u8) -> Option<u16> {
        match self.write_state {
            HIGH => Some(u16::from(value) << 8),
            LOW_FIRST => {
                self.write_latch = value;
                self.write_state = THEN_HIGH;
                None
            }
            THEN_HIGH => {
                self.write_state = LOW_FIRST;
                Some(u16::from_le_bytes([self.write_latch, value]))
            }
            _ => Some(u16::from(value)),
        }
    }

    fn load(&mut self, count: u16, now_ns: u64) {
        self.count = if count == 0 { 0x10000 } else { u32::from(count) };
        self.load_time_ns = now_ns;
    }
}

/// The byte to read in a state, and the state after it.
fn next_byte(state: u8, low: u8, high: u8) -> (u8, u8) {
    match state {
        HIGH => (high, HIGH),
        LOW_FIRST => (low, THEN_HIGH),
        THEN_HIGH => (high, LOW_FIRST),
        _ => (low, LOW),
    }
}

/// The interrupt side of channel 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    /// It counts towards an interrupt.
    running: bool,
    /// Ticks since the count was loaded.
    passed: u64,
}

/// The device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pit {
    /// The counters.
    pub channels: [Channel; 3],
    /// Speaker data enable of port 61H.
    pub speaker_data_on: bool,
    /// An HPET has taken over interrupt line 0.
    pub hpet_legacy: bool,
    ticks: Ticks,
}

impl Default for Pit {
    fn default() -> Self {
        Self::new()
    }
}

impl Pit {
    /// After power-up: no counter runs.
    #[must_use]
    pub fn new() -> Self {
        Pit {
            channels: [0, 1, 2].map(Channel::at_reset),
            speaker_data_on: false,
            hpet_legacy: false,
            ticks: Ticks::default(),
        }
    }

    /// Starts every channel anew from its registers, after they were set from outside.
    pub fn restart(&mut self, now_ns: u64) {
        for channel in &mut self.channels {
            channel.load_time_ns = now_ns;
        }
        self.ticks = Ticks { running: self.counts_to_interrupt(), passed: 0 };
    }

    fn counts_to_interrupt(&self) -> bool {
        !self.hpet_legacy && self.channels[0].mode <= 4
    }

    /// Time of the next pulse of interrupt line 0.
    #[must_use]
    pub fn next_tick(&self) -> Option<u64> {
        let channel = &self.channels[0];
        let periodic = matches!(channel.mode, 2 | 3);
        if !self.ticks.running || (!periodic && self.ticks.passed > 0) {
            return None;
        }
        let number = u128::from(self.ticks.passed) + 1;
        let after = (number * self.period()).div_ceil(u128::from(PIT_HZ));
        u64::try_from(u128::from(channel.load_time_ns) + after).ok()
    }

    /// Passes the pulses up to a time; how many they were.
    pub fn advance(&mut self, now_ns: u64) -> u64 {
        if self.next_tick().is_none_or(|next| now_ns < next) {
            return 0;
        }
        let channel = &self.channels[0];
        let before = self.ticks.passed;
        self.ticks.passed = match channel.mode {
            2 | 3 => {
                let counted = u128::from(now_ns - channel.load_time_ns) * u128::from(PIT_HZ);
                (counted / self.period()) as u64
            }
            _ => 1,
        };
        self.ticks.passed - before
    }

    /// Time between two pulses, in nanoseconds times [`PIT_HZ`], which is a whole number.
    fn period(&self) -> u128 {
        let channel = &self.channels[0];
        let exact = u128::from(channel.count) * NS_PER_SECOND;
        match channel.mode {
            2 | 3 => exact.max(u128::from(MIN_PERIOD_NS) * u128::from(PIT_HZ)),
            _ => exact,
        }
    }

    /// Reads port 40H to 43H or 61H; None for another.
    pub fn read_port(&mut self, port: u16, now_ns: u64) -> Option<u8> {
        match port {
            0x40..=0x42 => Some(self.channels[usize::from(port & 3)].read(now_ns)),
            0x43 => Some(0),
            0x61 => Some(self.read_speaker(now_ns)),
            _ => None,
        }
    }

    /// Writes a port; false for one that is not ours.
    pub fn write_port(&mut self, port: u16, value: u8, now_ns: u64) -> bool {
        match port {
            0x40..=0x42 => {
                let number = usize::from(port & 3);
                if let Some(count) = self.channels[number].write(value) {
                    self.channels[number].load(count, now_ns);
                    if number == 0 {
                        self.ticks = Ticks { running: self.counts_to_interrupt(), passed: 0 };
                    }
                }
            }
            0x43 => self.write_control(value, now_ns),
            0x61 => {
                self.speaker_data_on = value & 2 != 0;
                self.channels[2].set_gate(value & 1 != 0, now_ns);
            }
            _ => return false,
        }
        true
    }

    fn write_control(&mut self, value: u8, now_ns: u64) {
        if value >> 6 == 3 {
            return self.read_back(value, now_ns);
        }
        let channel = &mut self.channels[usize::from(value >> 6)];
        let access = (value >> 4) & 3;
        if access == 0 {
            return channel.latch_count(now_ns);
        }
        let mode = (value >> 1) & 7;
        channel.rw_mode = access;
        channel.read_state = access;
        channel.write_state = access;
        channel.mode = if mode > 5 { mode & 3 } else { mode };
        channel.bcd = value & 1 != 0;
    }

    fn read_back(&mut self, value: u8, now_ns: u64) {
        for (number, channel) in self.channels.iter_mut().enumerate() {
            if value & 2 << number == 0 {
                continue;
            }
            if value & 0x20 == 0 {
                channel.latch_count(now_ns);
            }
            if value & 0x10 == 0 {
                channel.latch_status(now_ns);
            }
        }
    }

    /// Bit 4 toggles with the refresh of memory, about every 15 µs.
    fn read_speaker(&self, now_ns: u64) -> u8 {
        let channel = &self.channels[2];
        u8::from(channel.gate)
            | u8::from(self.speaker_data_on) << 1
            | ((now_ns >> 14) as u8 & 1) << 4
            | u8::from(channel.output(now_ns)) << 5
    }
}
