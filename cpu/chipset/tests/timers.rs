//! Timers against exact arithmetic, at any time that 64 bits of nanoseconds hold: neither early, nor
//! late, nor never, and nothing overflows.

use cpu_chipset::lapic::register::{self, base};
use cpu_chipset::lapic::{Lapic, TimerEnd};
use cpu_chipset::{PIT_HZ, Pit};
use proptest::prelude::*;

const SECOND: u128 = 1_000_000_000;
/// Shortest period of either timer.
const SHORTEST_NS: u128 = 200_000;
const VECTOR: u8 = 0xEC;
const PERIODIC: u32 = 1 << 17;
const DEADLINE: u32 = 2 << 17;

fn lapic(mode: u32) -> Lapic {
    let mut lapic = Lapic::new(0, 0xFEE0_0000 | base::ENABLED);
    lapic.set_has_deadline_mode(true);
    lapic.write_mmio(register::SVR, 0x1FF, 0);
    lapic.write_mmio(register::LVT_TIMER, mode | u32::from(VECTOR), 0);
    lapic
}

/// Whether the timer has raised its interrupt by now, which is served.
fn fires(lapic: &mut Lapic, now_ns: u64, tsc: u64) -> bool {
    lapic.run_timer(now_ns, tsc);
    let vector = lapic.acknowledge();
    if vector.is_some() {
        assert_eq!(vector, Some(VECTOR));
        lapic.write_mmio(register::EOI, 0, now_ns);
    }
    vector.is_some()
}

/// Nanoseconds of a tick by the divide configuration register, as the SDM's figure has them.
fn divisor(configuration: u32) -> u64 {
    match configuration & 0xB {
        0b0000 => 2,
        0b0001 => 4,
        0b0010 => 8,
        0b0011 => 16,
        0b1000 => 32,
        0b1001 => 64,
        0b1010 => 128,
        _ => 1,
    }
}

/// Times of any magnitude.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), (0_u32..64, any::<u64>()).prop_map(|(shift, bits)| bits >> shift)]
}

/// Any time, more often one near the end.
fn start() -> impl Strategy<Value = u64> {
    prop_oneof![time(), time().prop_map(|before| u64::MAX - before)]
}

proptest! {
    #[test]
    fn a_one_shot_count_ends_once(
        configuration in 0_u32..16, initial in any::<u32>(), start in start(), steps in any::<[u16; 8]>(),
    ) {
        let mut lapic = lapic(0);
        lapic.write_mmio(register::TIMER_DIVIDE, configuration, start);
        lapic.write_mmio(register::TIMER_INITIAL, initial, start);
        let length = u64::from(initial) * divisor(configuration);
        let end = u128::from(start) + u128::from(length);
        let mut fired = false;
        for step in steps {
            let share = u128::from(length) * u128::from(step) / 0x8000;
            let Ok(now) = u64::try_from(u128::from(start) + share) else { continue };
            let due = initial != 0 && u128::from(now) >= end;
            prop_assert_eq!(fires(&mut lapic, now, 0), due && !fired);
            fired |= due;
            if end > u128::from(u64::MAX) {
                continue;
            }
            let left = if fired { 0 } else { end.saturating_sub(u128::from(now)) };
            let shown = u128::from(lapic.read_mmio(register::TIMER_CURRENT, now));
            prop_assert_eq!(shown, left / u128::from(divisor(configuration)));
        }
    }

    #[test]
    fn a_periodic_count_ends_at_every_multiple(
        configuration in 0_u32..16, initial in 1_u32.., start in start(), mut looks in any::<[u64; 8]>(),
    ) {
        let mut lapic = lapic(PERIODIC);
        lapic.write_mmio(register::TIMER_DIVIDE, configuration, start);
        lapic.write_mmio(register::TIMER_INITIAL, initial, start);
        let length = u128::from(initial) * u128::from(divisor(configuration));
        let period = length.max(SHORTEST_NS);
        looks.sort_unstable();
        let mut ended = 0;
        for now in looks.into_iter().filter(|now| *now >= start) {
            let ends = u128::from(now - start) / period;
            prop_assert_eq!(fires(&mut lapic, now, 0), ends > ended);
            ended = ends;
            let next = u64::try_from(u128::from(start) + (ends + 1) * period).unwrap_or(u64::MAX);
            prop_assert_eq!(lapic.timer_end(), Some(TimerEnd::Time(next)));
        }
    }

    #[test]
    fn a_count_goes_on_with_another_divisor(
        old in 0_u32..16, new in 0_u32..16, initial in 1_u32.., start in 0_u64..1 << 62, part in any::<u16>(),
    ) {
        let mut lapic = lapic(0);
        lapic.write_mmio(register::TIMER_DIVIDE, old, start);
        lapic.write_mmio(register::TIMER_INITIAL, initial, start);
        let length = u64::from(initial) * divisor(old);
        let now = start + (u128::from(length) * u128::from(part) / 0xFFFF) as u64;
        let left = (start + length - now) / divisor(old) * divisor(new);
        lapic.write_mmio(register::TIMER_DIVIDE, new, now);
        prop_assert_eq!(lapic.timer_end(), Some(TimerEnd::Time(now + left)), "never lost");
        prop_assert_eq!(fires(&mut lapic, now + left, 0), true);
    }

    /// Also where the counter begins anew before the timer is looked at.
    #[test]
    fn a_deadline_is_met_when_the_counter_passes_it(armed in any::<u64>(), ahead in 1_u64..1 << 62, step in 0_u64..1 << 62) {
        let deadline = armed.saturating_add(ahead);
        prop_assume!(deadline > armed);
        let mut lapic = lapic(DEADLINE);
        lapic.run_timer(0, armed);
        lapic.set_tsc_deadline(deadline);
        prop_assert!(!fires(&mut lapic, 0, armed));
        prop_assert_eq!(fires(&mut lapic, 0, armed.wrapping_add(step)), step >= deadline - armed);
    }

    #[test]
    fn the_rate_generator_ticks_at_every_multiple(
        mode in 2_u8..4, count in any::<u16>(), start in start(), mut looks in any::<[u64; 8]>(),
    ) {
        let mut pit = loaded(mode, count, start);
        let count = u128::from(if count == 0 { 0x10000 } else { u32::from(count) });
        let period = (count * SECOND).max(SHORTEST_NS * u128::from(PIT_HZ));
        looks.sort_unstable();
        let mut ticked = 0;
        for now in looks.into_iter().filter(|now| *now >= start) {
            let ticks = u128::from(now - start) * u128::from(PIT_HZ) / period;
            prop_assert_eq!(u128::from(pit.advance(now)), ticks - ticked);
            ticked = ticks;
            let next = u128::from(start) + ((ticks + 1) * period).div_ceil(u128::from(PIT_HZ));
            prop_assert_eq!(pit.next_tick(), u64::try_from(next).ok());
        }
    }

    #[test]
    fn a_counter_counts_down_for_years(mode in 0_u8..6, count in 1_u16.., start in start(), now in any::<u64>()) {
        let mut pit = loaded(mode, count, start);
        prop_assume!(now >= start);
        let clocks = u128::from(now - start) * u128::from(PIT_HZ) / SECOND;
        let count = u128::from(count);
        let exact = match mode {
            2 => count - clocks % count,
            3 => count - 2 * (clocks % count) % count,
            _ => (count + (1 << 80) - clocks) % (1 << 16),
        };
        let bytes = [0, 1].map(|_| pit.read_port(0x40, now).unwrap());
        prop_assert_eq!(u128::from(u16::from_le_bytes(bytes)), exact);
    }
}

fn loaded(mode: u8, count: u16, now: u64) -> Pit {
    let mut pit = Pit::new();
    pit.write_port(0x43, 0x30 | mode << 1, now);
    for byte in count.to_le_bytes() {
        pit.write_port(0x40, byte, now);
    }
    pit
}

#[test]
fn the_mode_counts_when_the_count_ends() {
    let mut late = lapic(0);
    late.write_mmio(register::TIMER_INITIAL, 500_000, 0);
    late.write_mmio(register::LVT_TIMER, PERIODIC | u32::from(VECTOR), 10);
    assert!(fires(&mut late, 1_000_000, 0) && fires(&mut late, 2_000_000, 0));
    late.write_mmio(register::LVT_TIMER, VECTOR.into(), 2_000_010);
    assert!(fires(&mut late, 3_000_000, 0) && !fires(&mut late, 4_000_000, 0));
}
