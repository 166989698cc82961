//! The 8254, in the words of its datasheet, at times of our choosing.

use cpu_chipset::{PIT_HZ, Pit};

const SECOND: u64 = 1_000_000_000;
const CONTROL: u16 = 0x43;

/// Channel 0 in a mode with a 16-bit count, loaded at `now`.
fn counting(mode: u8, count: u16, now: u64) -> Pit {
    let mut pit = Pit::new();
    pit.write_port(CONTROL, 0x30 | mode << 1, now);
    for byte in count.to_le_bytes() {
        pit.write_port(0x40, byte, now);
    }
    pit
}

fn clocks(number: u64) -> u64 {
    (number * SECOND).div_ceil(PIT_HZ)
}

fn read_count(pit: &mut Pit, now: u64) -> u16 {
    u16::from_le_bytes([pit.read_port(0x40, now).unwrap(), pit.read_port(0x40, now).unwrap()])
}

#[test]
fn the_rate_generator_ticks_every_period() {
    let mut pit = counting(2, 11932, 0);
    let first = pit.next_tick().unwrap();
    assert_eq!(first, clocks(11932));
    assert_eq!(pit.advance(first - 1), 0);
    assert_eq!(pit.advance(first), 1);
    assert_eq!(pit.next_tick(), Some(clocks(2 * 11932)));
    assert_eq!(pit.advance(clocks(7 * 11932)), 6);
}

#[test]
fn ticks_do_not_drift_over_years() {
    let ten_years = 10 * 365 * 86400 * SECOND;
    let mut pit = counting(2, 11932, 0);
    let ticks = pit.advance(ten_years);
    let exact = u128::from(ten_years) * u128::from(PIT_HZ) / u128::from(SECOND) / 11932;
    assert_eq!(u128::from(ticks), exact);
    let next = pit.next_tick().unwrap();
    assert!(next > ten_years && next <= ten_years + clocks(11932), "{next}");
}

#[test]
fn a_clock_near_its_end_gives_no_tick_instead_of_a_wrong_one() {
    let pit = counting(2, 0, u64::MAX - 10);
    assert_eq!(pit.next_tick(), None);
}

#[test]
fn interrupt_on_terminal_count_ticks_once() {
    let mut pit = counting(0, 1000, 5);
    let end = pit.next_tick().unwrap();
    assert_eq!(end, 5 + clocks(1000));
    assert_eq!(pit.advance(end), 1);
    assert_eq!(pit.next_tick(), None);
    assert_eq!(pit.advance(end + SECOND), 0);
}

#[test]
fn a_guest_cannot_ask_for_a_storm() {
    let pit = counting(2, 2, 0);
    assert_eq!(pit.next_tick(), Some(200_000));
}

#[test]
fn a_count_of_zero_is_the_longest() {
    assert_eq!(counting(2, 0, 0).next_tick(), Some(clocks(0x10000)));
}

#[test]
fn the_count_falls_with_time() {
    let mut pit = counting(0, 1000, 0);
    assert_eq!(read_count(&mut pit, clocks(1)), 999);
    assert_eq!(read_count(&mut pit, clocks(1001)), u16::MAX, "it counts on past zero");
}

#[test]
fn the_square_wave_counts_by_two() {
    let mut pit = counting(3, 1000, 0);
    assert_eq!(read_count(&mut pit, clocks(100)), 800);
    assert_eq!(read_count(&mut pit, clocks(600)), 800);
}

#[test]
fn a_latched_count_stands_still() {
    let mut pit = counting(0, 1000, 0);
    pit.write_port(CONTROL, 0x00, clocks(10));
    assert_eq!(read_count(&mut pit, clocks(500)), 990);
    assert_eq!(read_count(&mut pit, clocks(500)), 500);
}

#[test]
fn read_back_latches_status_before_count() {
    let mut pit = counting(2, 1000, 0);
    pit.write_port(CONTROL, 0xC2, clocks(10));
    assert_eq!(pit.read_port(0x40, 0), Some(0x34));
    assert_eq!(read_count(&mut pit, clocks(20)), 990);
}

#[test]
fn a_new_count_begins_with_its_high_byte() {
    let mut pit = counting(2, 1000, 0);
    pit.write_port(0x40, 0x10, clocks(50));
    assert_eq!(read_count(&mut pit, clocks(60)), 940);
    pit.write_port(0x40, 0x20, clocks(100));
    assert_eq!(read_count(&mut pit, clocks(100)), 0x2010);
}

#[test]
fn the_speaker_port_gates_channel_2_and_shows_its_output() {
    let mut pit = Pit::new();
    pit.write_port(CONTROL, 0xB0, 0);
    pit.write_port(0x42, 100, 0);
    pit.write_port(0x42, 0, 0);
    pit.write_port(0x61, 1, 0);
    assert_eq!(pit.read_port(0x61, clocks(99)).unwrap() & 0x23, 0x01);
    assert_eq!(pit.read_port(0x61, clocks(100)).unwrap() & 0x23, 0x21);
}

#[test]
fn an_hpet_takes_the_interrupt_over() {
    let mut pit = counting(2, 1000, 0);
    pit.hpet_legacy = true;
    pit.restart(0);
    assert_eq!(pit.next_tick(), None);
}

#[test]
fn other_ports_are_not_answered() {
    let mut pit = Pit::new();
    assert_eq!(pit.read_port(0x44, 0), None);
    assert!(!pit.write_port(0x60, 0, 0));
}
