//! The host's time-stamp counter and its frequency.
#![allow(unsafe_code)]

use std::arch::x86_64::{_mm_lfence, _rdtsc};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long the counter is watched to see whether the kernel's figure is its own frequency: that of
/// a host without a hypervisor may be the processor's present one.
const GLANCE: Duration = Duration::from_millis(2);
/// How long it is watched where it must be measured.
const LOOK: Duration = Duration::from_millis(20);
/// Parts per million by which a glance may be wrong.
const GLANCE_PPM: u64 = 1000;

/// The count now.
#[must_use]
pub fn host_tsc() -> u64 {
    // SAFETY: every x86-64 processor has RDTSC; no operating system here takes it from user code.
    unsafe { _rdtsc() }
}

/// The count when every earlier load has its value: what one processor has read from another comes
/// before what it reads here.
#[must_use]
pub fn host_tsc_ordered() -> u64 {
    // SAFETY: every x86-64 processor has LFENCE and RDTSC, as in `host_tsc`.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}

/// Ticks of the counter per millisecond; found out once, which takes a moment.
#[must_use]
pub fn host_tsc_khz() -> u32 {
    static KHZ: OnceLock<u32> = OnceLock::new();
    *KHZ.get_or_init(|| {
        let start = Reading::now();
        let glance = start.khz_after(GLANCE);
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let told = parse_khz(&cpuinfo).filter(|told| is_near(*told, glance, GLANCE_PPM));
        told.unwrap_or_else(|| start.khz_after(LOOK))
    })
}

/// Whether two frequencies differ by no more than so many parts per million of the first.
#[must_use]
pub fn is_near(khz: u32, other: u32, ppm: u64) -> bool {
    u64::from(khz.abs_diff(other)) * 1_000_000 <= u64::from(khz) * ppm
}

/// The counter and the clock at one moment.
struct Reading {
    tsc: u64,
    at: Instant,
}

impl Reading {
    /// The best of a few: nothing came between the two.
    fn now() -> Self {
        let attempt = || {
            let (before, at, after) = (host_tsc(), Instant::now(), host_tsc());
            (
                after.wrapping_sub(before),
                Reading { tsc: before + after.wrapping_sub(before) / 2, at },
            )
        };
        let first = attempt();
        let best =
            (0..4).map(|_| attempt()).fold(first, |best, it| if it.0 < best.0 { it } else { best });
        best.1
    }

    fn khz_after(&self, time: Duration) -> u32 {
        while self.at.elapsed() < time {
            std::hint::spin_loop();
        }
        let end = Reading::now();
        let ns = end.at.duration_since(self.at).as_nanos().max(1);
        let khz = u128::from(end.tsc.wrapping_sub(self.tsc)) * 1_000_000 / ns;
        u32::try_from(khz).unwrap_or(u32::MAX).max(1)
    }
}

/// Of the first processor, from proc_cpuinfo(5).
fn parse_khz(cpuinfo: &str) -> Option<u32> {
    let line = cpuinfo.lines().find(|line| line.starts_with("cpu MHz"))?;
    let mhz: f64 = line.split_once(':')?.1.trim().parse().ok()?;
    // A cast from float saturates, so the worst of files gives a frequency, if an odd one.
    Some((mhz * 1000.0) as u32).filter(|khz| *khz != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_processor_counts() {
        let cpuinfo = "processor\t: 0\ncpu MHz\t\t: 2596.120\nprocessor\t: 1\ncpu MHz\t\t: 800.0\n";
        assert_eq!(parse_khz(cpuinfo), Some(2_596_120));
    }

    #[test]
    fn nonsense_is_no_frequency() {
        for cpuinfo in
            ["", "cpu MHz", "cpu MHz : x", "cpu MHz : 0", "cpu MHz : -5", "cpu MHz : NaN"]
        {
            assert_eq!(parse_khz(cpuinfo), None, "{cpuinfo}");
        }
    }

    #[test]
    fn the_frequency_is_that_of_the_counter() {
        let measured = Reading::now().khz_after(LOOK);
        assert!(is_near(host_tsc_khz(), measured, 2 * GLANCE_PPM), "{measured}");
    }
}
