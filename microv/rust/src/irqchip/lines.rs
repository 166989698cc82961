//! Inputs that several sources share: high while one of them holds it high.

/// Who drives an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// The root, by its calls.
    Root = 0,
    /// An event that resets the line at the end of the interrupt.
    Resampled = 1,
    /// The timer of the VM.
    Pit = 2,
}

/// The inputs of one controller.
#[derive(Clone, Copy, Debug)]
pub struct Lines<const N: usize>([u8; N]);

impl<const N: usize> Default for Lines<N> {
    fn default() -> Self {
        Lines([0; N])
    }
}

impl<const N: usize> Lines<N> {
    /// A source drives an input; the level that results. None: there is no such input.
    pub fn drive(&mut self, input: u8, source: Source, high: bool) -> Option<bool> {
        let sources = self.0.get_mut(usize::from(input))?;
        let bit = 1 << source as u8;
        *sources = if high { *sources | bit } else { *sources & !bit };
        Some(*sources != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_falls_when_its_last_source_lets_go() {
        let mut lines = Lines::<24>::default();
        assert_eq!(lines.drive(5, Source::Root, true), Some(true));
        assert_eq!(lines.drive(5, Source::Resampled, true), Some(true));
        assert_eq!(lines.drive(5, Source::Root, false), Some(true));
        assert_eq!(lines.drive(5, Source::Resampled, false), Some(false));
        assert_eq!(lines.drive(24, Source::Root, true), None);
    }
}
