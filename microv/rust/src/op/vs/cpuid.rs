//! cpuid_get, cpuid_set and their lists: what the guest's CPUID answers.
//!
//! MicroV's specification lets a set only take features away. A root that serves KVM_SET_CPUID2 must be
//! able to set anything, so the table becomes what the caller wrote. A new VS has the supported table.

use cpu_defs::CpuidEntry;

use crate::abi::list::{MV_CDL_FLAG_ALL, MV_CDL_FLAG_APPEND, MV_CDL_MAX_ENTRIES, mv_cdl_t};
use crate::call::Call;
use crate::cdl;
use crate::object::state::State;
use crate::outcome::{Failure, OpResult};

/// The first entry of the list on the page is the question and becomes the answer; a leaf that is not
/// in the table is refused.
pub fn get(call: &Call) -> OpResult {
    super::done(call, |state| {
        cdl::answer_one(call.pp.page()?, state.vcpu.cpuid()).ok_or(Failure::Unknown)
    })
}

/// Puts the first entry of the list on the page into the table, in place of that for its leaf and
/// subleaf.
pub fn set(call: &Call) -> OpResult {
    super::done(call, |state| {
        let entry = cdl::read_one(call.pp.page()?);
        change_table(state, |table| put(table, cdl::to_table(&entry)))
    })
}

/// Answers the listed leaves, zeros where the table has none; with MV_CDL_FLAG_ALL the whole table.
pub fn get_list(call: &Call) -> OpResult {
    super::done(call, |state| cdl::answer(call.pp.page()?, state.vcpu.cpuid()))
}

/// Puts each listed entry into the table, in place of that for its leaf and subleaf. With
/// MV_CDL_FLAG_ALL the list, which may be empty then, becomes the table; with MV_CDL_FLAG_APPEND its
/// entries come behind those in the table, whatever their leaves.
pub fn set_list(call: &Call) -> OpResult {
    super::done(call, |state| {
        let mut list: mv_cdl_t = call.pp.page()?.read();
        let flags = list.reg[0] & (MV_CDL_FLAG_ALL | MV_CDL_FLAG_APPEND);
        if list.num_entries > MV_CDL_MAX_ENTRIES || (list.num_entries, flags) == (0, 0) {
            return Err(Failure::Unknown);
        }
        let listed = cdl::entries(&mut list).iter().map(cdl::to_table);
        change_table(state, |table| match flags {
            0 => listed.for_each(|entry| put(table, entry)),
            _ => {
                if flags & MV_CDL_FLAG_ALL != 0 {
                    table.clear();
                }
                table.extend(listed);
            }
        })
    })
}

/// Replaces the entry which answers for the same leaf and subleaf, or adds one.
fn put(table: &mut Vec<CpuidEntry>, new: CpuidEntry) {
    let same = |entry: &&mut CpuidEntry| {
        entry.function == new.function
            && entry.significant_index == new.significant_index
            && (!new.significant_index || entry.index == new.index)
    };
    match table.iter_mut().find(same) {
        Some(entry) => *entry = new,
        None => table.push(new),
    }
}

/// # Errors
/// [`Failure::Unknown`] where the table would be too long; then it stays.
fn change_table(
    state: &mut State,
    change: impl FnOnce(&mut Vec<CpuidEntry>),
) -> Result<(), Failure> {
    let mut table = state.vcpu.cpuid().to_vec();
    change(&mut table);
    if table.len() > MAX_ENTRIES {
        return Err(Failure::Unknown);
    }
    state.vcpu.set_cpuid(table);
    state.note_other_cpuid();
    Ok(())
}

/// Bound of the table, which every CPUID of the guest searches.
const MAX_ENTRIES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, subleaf: Option<u32>, eax: u32) -> CpuidEntry {
        let (significant_index, index) = (subleaf.is_some(), subleaf.unwrap_or(0));
        CpuidEntry { function, index, significant_index, eax, ..CpuidEntry::default() }
    }

    #[test]
    fn an_entry_replaces_that_of_its_leaf_and_subleaf_only() {
        let mut table = vec![entry(1, None, 1), entry(4, Some(0), 2), entry(4, Some(1), 3)];
        put(&mut table, entry(4, Some(1), 9));
        put(&mut table, entry(1, None, 8));
        put(&mut table, entry(4, Some(2), 7));
        let eax: Vec<_> = table.iter().map(|entry| entry.eax).collect();
        assert_eq!(eax, [8, 2, 9, 7]);
    }
}
