//! CPUID descriptor lists: safety of the copy of a page, and entries to and from the processor's table.

use std::mem::offset_of;

use cpu_defs::CpuidEntry;
use zerocopy::{FromZeros, IntoBytes};

use crate::abi::list::{
    MV_CDL_FLAG_ALL, MV_CDL_MAX_ENTRIES, MV_CPUID_FLAG_SIGNIFICANT_INDEX, mv_cdl_entry_t, mv_cdl_t,
};
use crate::outcome::Failure;
use crate::page::SharedPage;

/// Where the entries begin on the page.
const ENTRIES: usize = offset_of!(mv_cdl_t, entries);

/// The entries in use.
pub fn entries(cdl: &mut mv_cdl_t) -> &mut [mv_cdl_entry_t] {
    &mut cdl.entries[..cdl.num_entries as usize]
}

/// Answers a get from `table`: with MV_CDL_FLAG_ALL in reg0 the table from index reg1 on, where reg1
/// becomes the number of entries left; else the answer to each entry of the list, zeros where the
/// table has none.
///
/// # Errors
/// [`Failure::Unknown`] where the list is not safe, or reg1 lies beyond the table.
pub fn answer(page: &SharedPage, table: &[CpuidEntry]) -> Result<(), Failure> {
    let mut cdl: mv_cdl_t = page.read();
    match (cdl.reg[0] & MV_CDL_FLAG_ALL != 0, cdl.num_entries) {
        (true, 0) => list_all(&mut cdl, table)?,
        (false, 1..=MV_CDL_MAX_ENTRIES) => {
            for entry in entries(&mut cdl) {
                let found = find(table, entry.fun, entry.idx);
                *entry = from_table(&found.copied().unwrap_or(CpuidEntry {
                    function: entry.fun,
                    index: entry.idx,
                    ..CpuidEntry::default()
                }));
            }
        }
        _ => return Err(Failure::Unknown),
    }
    page.write(0, &cdl);
    Ok(())
}

fn list_all(cdl: &mut mv_cdl_t, table: &[CpuidEntry]) -> Result<(), Failure> {
    let rest = usize::try_from(cdl.reg[1]).ok().and_then(|index| table.get(index..));
    let rest = rest.ok_or(Failure::Unknown)?;
    let count = rest.len().min(cdl.entries.len());
    for (to, from) in cdl.entries.iter_mut().zip(rest) {
        *to = from_table(from);
    }
    cdl.num_entries = count as u64;
    cdl.reg[1] = (rest.len() - count) as u64;
    Ok(())
}

/// Answers the first entry of the list on the page; the number of entries does not matter. `None`
/// where the table has no such leaf: then the page is as it was.
pub fn answer_one(page: &SharedPage, table: &[CpuidEntry]) -> Option<()> {
    let entry = read_one(page);
    let found = find(table, entry.fun, entry.idx)?;
    page.write(ENTRIES, &from_table(found));
    Some(())
}

/// The first entry of the list on the page.
pub fn read_one(page: &SharedPage) -> mv_cdl_entry_t {
    let mut entry = mv_cdl_entry_t::new_zeroed();
    page.copy_in(ENTRIES, entry.as_mut_bytes());
    entry
}

/// The entry which answers CPUID for this leaf and subleaf.
pub fn find(table: &[CpuidEntry], function: u32, index: u32) -> Option<&CpuidEntry> {
    table.iter().find(|entry| {
        entry.function == function && (!entry.significant_index || entry.index == index)
    })
}

/// An entry of a list as the processor's table wants it.
pub fn to_table(entry: &mv_cdl_entry_t) -> CpuidEntry {
    CpuidEntry {
        function: entry.fun,
        index: entry.idx,
        significant_index: u64::from(entry.flags) & MV_CPUID_FLAG_SIGNIFICANT_INDEX != 0,
        eax: entry.eax,
        ebx: entry.ebx,
        ecx: entry.ecx,
        edx: entry.edx,
    }
}

/// An entry of the processor's table as a list shows it.
pub fn from_table(entry: &CpuidEntry) -> mv_cdl_entry_t {
    mv_cdl_entry_t {
        fun: entry.function,
        idx: entry.index,
        flags: if entry.significant_index { MV_CPUID_FLAG_SIGNIFICANT_INDEX as u32 } else { 0 },
        eax: entry.eax,
        ebx: entry.ebx,
        ecx: entry.ecx,
        edx: entry.edx,
        reserved: 0,
    }
}
