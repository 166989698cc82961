//! The time-stamp counter frequency that guests get unless the root chose one.
//!
//! A guest's counter is computed from host time, so any frequency is true to the guest; the host's own
//! is what its user expects to see.

use std::sync::OnceLock;

/// Where the host does not tell.
const FALLBACK_KHZ: u32 = 1_000_000;

/// Frequency of the host's processor in kHz, read once from proc_cpuinfo(5).
pub fn host_khz() -> u32 {
    static KHZ: OnceLock<u32> = OnceLock::new();
    *KHZ.get_or_init(|| {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        parse_khz(&cpuinfo).unwrap_or(FALLBACK_KHZ)
    })
}

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
}
