//! Memory descriptor lists: the copy of a page turned into runs, or refused.
//!
//! An entry may be any number of pages long. Guest runs end at MV_MAX_GPA of either
//! address space at the latest; how high the
//! memory of this process lies is the host's affair. Access rights beyond READ (implied), WRITE and
//! EXECUTE are refused, caching flags and REVI bits ignored.

use cpu_mem::PageFlags;

use crate::abi::id::{MV_MAX_GPA, MV_PAGE_SIZE};
use crate::abi::map;
use crate::abi::map::{MV_MDL_MAX_ENTRIES, mv_mdl_entry_t, mv_mdl_t};
use crate::runs::{Run, overlap_each_other};

/// What the list is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `dst`, `src`, `bytes` and `flags` count.
    Map,
    /// As for map, of pages that are mapped.
    Replace,
    /// Only `dst` and `bytes` count.
    Unmap,
}

const NOT_ALLOWED: u64 = map::MV_MAP_FLAG_USER
    | map::MV_MAP_FLAG_4K_PAGE
    | map::MV_MAP_FLAG_2M_PAGE
    | map::MV_MAP_FLAG_1G_PAGE;

/// The runs of a list; `None` where the list is not safe to follow or names a guest page twice.
pub fn runs(mdl: &mv_mdl_t, direction: Direction) -> Option<Vec<Run>> {
    if !(1..=MV_MDL_MAX_ENTRIES).contains(&mdl.num_entries) {
        return None;
    }
    let entries = &mdl.entries[..mdl.num_entries as usize];
    let runs: Vec<Run> =
        entries.iter().map(|entry| run(entry, direction)).collect::<Option<_>>()?;
    (!overlap_each_other(&runs)).then_some(runs)
}

fn run(entry: &mv_mdl_entry_t, direction: Direction) -> Option<Run> {
    let &mv_mdl_entry_t { dst, src, bytes, flags } = entry;
    let (hva, flags) = match direction {
        Direction::Map | Direction::Replace if flags & NOT_ALLOWED != 0 => return None,
        Direction::Map | Direction::Replace => (src, rights(flags)),
        Direction::Unmap => (0, PageFlags::NONE),
    };
    let sound = bytes != 0
        && [dst, hva, bytes].into_iter().all(|number| number.is_multiple_of(MV_PAGE_SIZE))
        && (dst & !map::MV_GPA_SMM).checked_add(bytes).is_some_and(|end| end <= MV_MAX_GPA)
        && hva.checked_add(bytes).is_some();
    sound.then_some(Run { gpa: dst, hva, bytes, flags })
}

fn rights(flags: u64) -> PageFlags {
    let mut rights = PageFlags::READ;
    if flags & map::MV_MAP_FLAG_WRITE_ACCESS != 0 {
        rights = rights | PageFlags::WRITE;
    }
    if flags & map::MV_MAP_FLAG_EXECUTE_ACCESS != 0 {
        rights = rights | PageFlags::EXECUTE;
    }
    if flags & map::MV_MAP_FLAG_LOG_WRITES != 0 {
        rights = rights | PageFlags::LOGGED;
    }
    rights
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn list(entries: &[(u64, u64, u64, u64)]) -> mv_mdl_t {
        let mut mdl = mv_mdl_t::new_zeroed();
        mdl.num_entries = entries.len() as u64;
        for (to, &(dst, src, bytes, flags)) in mdl.entries.iter_mut().zip(entries) {
            *to = mv_mdl_entry_t { dst, src, bytes, flags };
        }
        mdl
    }

    #[test]
    fn an_entry_may_be_many_pages() {
        let flags = map::MV_MAP_FLAG_WRITE_ACCESS | map::MV_MAP_FLAG_WRITE_BACK;
        let found = runs(&list(&[(0x1000, 0x7000, 0x40_0000, flags)]), Direction::Map);
        let flags = PageFlags::READ | PageFlags::WRITE;
        assert_eq!(found, Some(vec![Run { gpa: 0x1000, hva: 0x7000, bytes: 0x40_0000, flags }]));
    }

    #[test]
    fn the_last_page_below_the_limit_is_allowed_and_the_next_is_not() {
        let last = MV_MAX_GPA - MV_PAGE_SIZE;
        assert!(runs(&list(&[(last, 0x1000, 0x1000, 0)]), Direction::Map).is_some());
        assert!(runs(&list(&[(last, 0x1000, 0x2000, 0)]), Direction::Map).is_none());
        assert!(runs(&list(&[(0x1000, last, 0x2000, 0)]), Direction::Map).is_some());
    }

    #[test]
    fn unsound_entries_are_refused() {
        for entry in [
            (0x1001, 0x1000, 0x1000, 0),
            (0x1000, 0x1008, 0x1000, 0),
            (0x1000, 0x1000, 0, 0),
            (0x1000, 0x1000, 0x1800, 0),
            (0x1000, 0x1000, !0xFFF, 0),
            (!0xFFF, 0x1000, 0x1000, 0),
            (0x1000, !0xFFF, 0x1000, 0),
            (0x1000, 0x1000, 0x1000, map::MV_MAP_FLAG_USER),
        ] {
            assert_eq!(
                runs(&list(&[(0, 0, 0x1000, 0), entry]), Direction::Map),
                None,
                "{entry:x?}"
            );
        }
    }

    #[test]
    fn unmap_looks_at_dst_and_bytes_only() {
        assert!(runs(&list(&[(0x1000, 0x123, 0x1000, u64::MAX)]), Direction::Unmap).is_some());
    }

    #[test]
    fn the_number_of_entries_is_1_to_125() {
        let mut mdl = list(&[(0, 0, 0x1000, 0); 1]);
        for num_entries in [0, 126, u64::MAX] {
            mdl.num_entries = num_entries;
            assert_eq!(runs(&mdl, Direction::Map), None);
        }
        let many: Vec<_> = (0..125).map(|i| (i << 12, 0, 0x1000, 0)).collect();
        assert_eq!(runs(&list(&many), Direction::Map).map(|runs| runs.len()), Some(125));
    }
}
