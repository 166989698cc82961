//! Two 8259A interrupt controllers in cascade, as in the PC: the slave's output is line 2 of the
//! master.
//!
//! Intel 8259A datasheet; the edge/level control registers at 4D0H and 4D1H are those of the PIIX3.
//! Only the 8086 mode of vectors exists. Not here: the special mask mode's rotation corner cases
//! that the datasheet leaves open, buffered mode (it changes no behaviour a guest can see).

/// Line of the master that the slave drives.
const CASCADE: u8 = 2;
/// Vector offset of a request that vanished before it was acknowledged.
const SPURIOUS: u8 = 7;
/// Lines whose edge/level bit can be set, for master and slave: not those of timer, keyboard,
/// cascade, clock and coprocessor.
const ELCR_MASKS: [u8; 2] = [0xF8, 0xDE];

/// One 8259A.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pic {
    /// Level of each line when it was last looked at, for edges.
    pub last_irr: u8,
    /// Interrupt request register.
    pub irr: u8,
    /// Interrupt mask register.
    pub imr: u8,
    /// In-service register.
    pub isr: u8,
    /// Line of the highest priority.
    pub priority_add: u8,
    /// Vector of line 0. A guest sets multiples of 8; who restores a state may set any.
    pub irq_base: u8,
    /// The command port reads the ISR, not the IRR.
    pub read_reg_select: bool,
    /// The next read polls.
    pub poll: bool,
    /// Special mask mode.
    pub special_mask: bool,
    /// Which initialization command word comes next: 0 for none, else ICW2 to ICW4.
    pub init_state: u8,
    /// Automatic end of interrupt.
    pub auto_eoi: bool,
    /// Rotate at automatic end of interrupt.
    pub rotate_on_auto_eoi: bool,
    /// Special fully nested mode.
    pub special_fully_nested_mode: bool,
    /// ICW4 will follow.
    pub init4: bool,
    /// Edge/level control register: bit set for level.
    pub elcr: u8,
    /// Bits of `elcr` that can be set.
    pub elcr_mask: u8,
}

/// How a change of an input line was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// The line is masked.
    Masked,
    /// The request was pending already, or the line fell.
    Coalesced,
    /// A new request.
    New,
}

impl Pic {
    fn set_line(&mut self, line: u8, level: bool) -> Raised {
        let bit = 1 << line;
        let pending = self.irr & bit != 0;
        let mut new = false;
        if self.elcr & bit != 0 {
            self.set_last(bit, level);
            self.irr = if level { self.irr | bit } else { self.irr & !bit };
            new = level && !pending;
        } else {
            let rising = level && self.last_irr & bit == 0;
            self.set_last(bit, level);
            if rising {
                self.irr |= bit;
                new = !pending;
            }
        }
        match (self.imr & bit != 0, new) {
            (true, _) => Raised::Masked,
            (false, false) => Raised::Coalesced,
            (false, true) => Raised::New,
        }
    }

    fn set_last(&mut self, bit: u8, level: bool) {
        self.last_irr = if level { self.last_irr | bit } else { self.last_irr & !bit };
    }

    /// Distance of the highest-priority line of a mask from the top, 8 if there is none.
    fn priority(&self, lines: u8) -> u8 {
        lines.rotate_right(u32::from(self.priority_add & 7)).trailing_zeros() as u8
    }

    /// The line to serve next, if one may interrupt what is in service.
    fn pending(&self, is_master: bool) -> Option<u8> {
        let request = self.priority(self.irr & !self.imr);
        let mut in_service = self.isr;
        if self.special_mask {
            in_service &= !self.imr;
        }
        if self.special_fully_nested_mode && is_master {
            in_service &= !(1 << CASCADE);
        }
        (request < self.priority(in_service)).then(|| (request + self.priority_add) & 7)
    }

    /// Takes a request into service. Lines whose service ended at once are returned as a mask.
    fn acknowledge(&mut self, line: u8) -> u8 {
        let bit = 1 << line;
        self.isr |= bit;
        if self.elcr & bit == 0 {
            self.irr &= !bit;
        }
        if !self.auto_eoi {
            return 0;
        }
        if self.rotate_on_auto_eoi {
            self.priority_add = (line + 1) & 7;
        }
        self.isr &= !bit;
        bit
    }

    /// Initialization command word 1. Requests of level lines stay.
    fn start_initialization(&mut self, icw1: u8) -> u8 {
        let ended = self.isr;
        *self = Pic {
            last_irr: self.last_irr,
            irr: self.irr & self.elcr,
            elcr: self.elcr,
            elcr_mask: self.elcr_mask,
            irq_base: self.irq_base,
            init4: icw1 & 1 != 0,
            init_state: 1,
            ..Pic::default()
        };
        self.last_irr &= self.elcr;
        ended
    }

    fn write_command(&mut self, value: u8) -> u8 {
        if value & 0x10 != 0 {
            return self.start_initialization(value);
        }
        if value & 0x08 != 0 {
            self.operation_word_3(value);
            return 0;
        }
        self.operation_word_2(value)
    }

    fn operation_word_3(&mut self, value: u8) {
        self.poll = value & 0x04 != 0;
        if value & 0x02 != 0 {
            self.read_reg_select = value & 1 != 0;
        }
        if value & 0x40 != 0 {
            self.special_mask = value & 0x20 != 0;
        }
    }

    /// End of interrupt and rotation. Lines whose service ended are returned as a mask.
    fn operation_word_2(&mut self, value: u8) -> u8 {
        let line = value & 7;
        match value >> 5 {
            0 | 4 => {
                self.rotate_on_auto_eoi = value >> 5 == 4;
                0
            }
            command @ (1 | 5) => {
                let top = self.priority(self.isr);
                if top == 8 {
                    return 0;
                }
                let line = (top + self.priority_add) & 7;
                self.isr &= !(1 << line);
                if command == 5 {
                    self.priority_add = (line + 1) & 7;
                }
                1 << line
            }
            command @ (3 | 7) => {
                let ended = self.isr & (1 << line);
                self.isr &= !(1 << line);
                if command == 7 {
                    self.priority_add = (line + 1) & 7;
                }
                ended
            }
            6 => {
                self.priority_add = (line + 1) & 7;
                0
            }
            _ => 0,
        }
    }

    fn write_data(&mut self, value: u8) {
        match self.init_state {
            0 => self.imr = value,
            1 => {
                self.irq_base = value & 0xF8;
                self.init_state = 2;
            }
            2 => self.init_state = if self.init4 { 3 } else { 0 },
            _ => {
                self.special_fully_nested_mode = value & 0x10 != 0;
                self.auto_eoi = value & 0x02 != 0;
                self.init_state = 0;
            }
        }
    }
}

/// Master and slave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PicPair {
    /// Lines 0 to 7.
    pub master: Pic,
    /// Lines 8 to 15.
    pub slave: Pic,
    /// Lines whose service ended and whose listeners have not been told, by bit.
    ended: u16,
}

impl Default for PicPair {
    fn default() -> Self {
        Self::new()
    }
}

impl PicPair {
    /// After power-up.
    #[must_use]
    pub fn new() -> Self {
        let chip = |which: usize| Pic { elcr_mask: ELCR_MASKS[which], ..Pic::default() };
        PicPair { master: chip(0), slave: chip(1), ended: 0 }
    }

    /// Puts an input line, 0 to 15, to a level.
    pub fn set_line(&mut self, line: u8, level: bool) -> Raised {
        let raised = match line {
            0..8 => self.master.set_line(line, level),
            _ => self.slave.set_line(line & 7, level),
        };
        self.cascade();
        raised
    }

    /// Whether an input, 0 to 15, is masked.
    #[must_use]
    pub fn is_masked(&self, line: u8) -> bool {
        let chip = if line < 8 { &self.master } else { &self.slave };
        chip.imr >> (line & 7) & 1 != 0
    }

    /// The INTR output to the processor.
    #[must_use]
    pub fn output(&self) -> bool {
        self.master.pending(true).is_some()
    }

    /// The processor's acknowledge cycle: the vector.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = match self.master.pending(true) {
            None => self.master.irq_base.wrapping_add(SPURIOUS),
            Some(CASCADE) => {
                self.end(0, CASCADE);
                match self.slave.pending(false) {
                    None => self.slave.irq_base.wrapping_add(SPURIOUS),
                    Some(line) => {
                        self.end(1, line);
                        self.slave.irq_base.wrapping_add(line)
                    }
                }
            }
            Some(line) => {
                self.end(0, line);
                self.master.irq_base.wrapping_add(line)
            }
        };
        self.cascade();
        vector
    }

    fn end(&mut self, which: usize, line: u8) {
        let ended = self.chip(which).acknowledge(line);
        self.ended |= u16::from(ended) << (8 * which);
    }

    /// Lines whose service has ended since the last call, by bit.
    pub fn take_ended(&mut self) -> u16 {
        std::mem::take(&mut self.ended)
    }

    /// Whether a port is one of the pair's: 20H, 21H, A0H, A1H, 4D0H, 4D1H.
    #[must_use]
    pub fn has_port(port: u16) -> bool {
        decode(port).is_some()
    }

    /// Reads port 20H, 21H, A0H, A1H, 4D0H or 4D1H; None for another.
    pub fn read_port(&mut self, port: u16) -> Option<u8> {
        let (which, register) = decode(port)?;
        if register == Register::EdgeLevel {
            return Some(self.chip(which).elcr);
        }
        if self.chip(which).poll {
            return Some(self.poll(which));
        }
        let chip = self.chip(which);
        Some(match register {
            Register::Data => chip.imr,
            _ if chip.read_reg_select => chip.isr,
            _ => chip.irr,
        })
    }

    /// Writes a port; false for one that is not ours.
    pub fn write_port(&mut self, port: u16, value: u8) -> bool {
        let Some((which, register)) = decode(port) else { return false };
        let chip = self.chip(which);
        match register {
            Register::Command => {
                let ended = chip.write_command(value);
                self.ended |= u16::from(ended) << (8 * which);
            }
            Register::Data => chip.write_data(value),
            Register::EdgeLevel => chip.elcr = value & chip.elcr_mask,
        }
        self.cascade();
        true
    }

    /// The poll command: acknowledges like the processor, and says which line it was.
    fn poll(&mut self, which: usize) -> u8 {
        let is_master = which == 0;
        let chip = self.chip(which);
        chip.poll = false;
        let Some(line) = chip.pending(is_master) else { return 0 };
        self.end(which, line);
        self.cascade();
        0x80 | line
    }

    /// Puts the slave's output on line 2 of the master. It is an edge each time the slave is looked
    /// at, so that a second request behind the first is not lost.
    fn cascade(&mut self) {
        if self.slave.pending(false).is_some() {
            self.master.set_line(CASCADE, true);
            self.master.set_line(CASCADE, false);
        }
    }

    fn chip(&mut self, which: usize) -> &mut Pic {
        if which == 0 { &mut self.master } else { &mut self.slave }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Register {
    Command,
    Data,
    EdgeLevel,
}

fn decode(port: u16) -> Option<(usize, Register)> {
    Some(match port {
        0x20 => (0, Register::Command),
        0x21 => (0, Register::Data),
        0xA0 => (1, Register::Command),
        0xA1 => (1, Register::Data),
        0x4D0 => (0, Register::EdgeLevel),
        0x4D1 => (1, Register::EdgeLevel),
        _ => return None,
    })
}
