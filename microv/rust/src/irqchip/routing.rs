//! Where the interrupt lines of a VM lead ("GSI" in ACPI: global system interrupt).

use cpu_chipset::IOAPIC_PINS;

/// Lines with an entry each; larger numbers cannot be routed.
pub const MAX_GSI: u32 = 4096;
/// Lines that both controllers have.
const PIC_PINS: u8 = 16;

/// One destination of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Input of the 8259A pair, 0 to 15.
    Pic(u8),
    /// Pin of the I/O APIC.
    Ioapic(u8),
    /// A message, sent when the line rises.
    Msi {
        /// Address written to.
        address: u64,
        /// Data written.
        data: u32,
    },
    /// A source of a synthetic interrupt controller, when the line rises.
    Sint {
        /// Whose: its number in Hyper-V's sets of processors.
        vp_index: u32,
        /// Which.
        sint: u8,
    },
}

/// The table. Replaced as a whole, never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    by_gsi: Vec<Vec<Route>>,
}

impl Routing {
    /// That of a PC: lines 0 to 15 to both controllers, the rest of the pins to the I/O APIC.
    #[must_use]
    pub fn of_a_pc() -> Self {
        let pic = (0..PIC_PINS).map(|pin| (u32::from(pin), Route::Pic(pin)));
        let ioapic = (0..IOAPIC_PINS as u8).map(|pin| (u32::from(pin), Route::Ioapic(pin)));
        Self::new(pic.chain(ioapic))
    }

    /// The table with these entries, whose lines are below [`MAX_GSI`].
    pub fn new(entries: impl IntoIterator<Item = (u32, Route)>) -> Self {
        let mut by_gsi: Vec<Vec<Route>> = Vec::new();
        for (gsi, route) in entries {
            let at = gsi as usize;
            if by_gsi.len() <= at {
                by_gsi.resize(at + 1, Vec::new());
            }
            by_gsi[at].push(route);
        }
        Routing { by_gsi }
    }

    /// Where a line leads.
    #[must_use]
    pub fn of(&self, gsi: u32) -> &[Route] {
        self.by_gsi.get(gsi as usize).map_or(&[], Vec::as_slice)
    }

    /// The lines that lead to a pin of the I/O APIC, or to an input of the 8259A pair.
    pub fn lines_to(&self, route: Route) -> impl Iterator<Item = u32> {
        let lines = (0..).zip(&self.by_gsi);
        lines.filter(move |(_, routes)| routes.contains(&route)).map(|(gsi, _)| gsi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pc_has_sixteen_lines_at_both_controllers() {
        let routing = Routing::of_a_pc();
        assert_eq!(routing.of(4), [Route::Pic(4), Route::Ioapic(4)]);
        assert_eq!(routing.of(23), [Route::Ioapic(23)]);
        assert!(routing.of(24).is_empty() && routing.of(u32::MAX).is_empty());
    }

    #[test]
    fn a_pin_may_have_several_lines() {
        let routing = Routing::new([(3, Route::Ioapic(2)), (0, Route::Ioapic(2))]);
        assert_eq!(routing.lines_to(Route::Ioapic(2)).collect::<Vec<_>>(), [0, 3]);
    }
}
