//! Register descriptor lists: safety of the copy of a page before anything follows it.

use crate::abi::list::{MV_RDL_FLAG_ALL, MV_RDL_MAX_ENTRIES, mv_rdl_entry_t, mv_rdl_t};
use crate::outcome::Failure;
use crate::page::SharedPage;

/// Copies a list in. Registers 0 to 7 of its head are the caller's business.
///
/// # Errors
/// [`Failure::Unknown`] where the number of entries is not 1 to 250.
pub fn read(page: &SharedPage) -> Result<mv_rdl_t, Failure> {
    let rdl: mv_rdl_t = page.read();
    check(&rdl).map(|()| rdl)
}

/// The entries in use.
pub fn entries(rdl: &mut mv_rdl_t) -> &mut [mv_rdl_entry_t] {
    &mut rdl.entries[..rdl.num_entries as usize]
}

/// What a list of the supported asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// MV_RDL_FLAG_ALL: everything from this index of the table on.
    AllFrom(usize),
    /// The entries of the list.
    Listed,
}

/// Whether the list asks for everything (reg0 = MV_RDL_FLAG_ALL, reg1 = index, no entries) or about
/// its entries (reg0 = reg1 = 0).
///
/// # Errors
/// [`Failure::Unknown`] where it does neither, or the index is not below `supported`.
pub fn query(rdl: &mv_rdl_t, supported: usize) -> Result<Query, Failure> {
    match rdl.reg[0] {
        0 if rdl.reg[1] == 0 => check(rdl).map(|()| Query::Listed),
        MV_RDL_FLAG_ALL if rdl.num_entries == 0 => match usize::try_from(rdl.reg[1]) {
            Ok(index) if index < supported => Ok(Query::AllFrom(index)),
            _ => Err(Failure::Unknown),
        },
        _ => Err(Failure::Unknown),
    }
}

fn check(rdl: &mv_rdl_t) -> Result<(), Failure> {
    match rdl.num_entries {
        1..=MV_RDL_MAX_ENTRIES => Ok(()),
        _ => Err(Failure::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn rdl(reg0: u64, reg1: u64, num_entries: u64) -> mv_rdl_t {
        let mut rdl = mv_rdl_t::new_zeroed();
        (rdl.reg[0], rdl.reg[1], rdl.num_entries) = (reg0, reg1, num_entries);
        rdl
    }

    #[test]
    fn a_query_is_for_all_or_for_the_entries() {
        assert_eq!(query(&rdl(1, 0, 0), 13), Ok(Query::AllFrom(0)));
        assert_eq!(query(&rdl(1, 12, 0), 13), Ok(Query::AllFrom(12)));
        assert_eq!(query(&rdl(0, 0, 250), 13), Ok(Query::Listed));
    }

    #[test]
    fn other_queries_are_refused() {
        for (reg0, reg1, n) in [
            (1, 13, 0),
            (1, u64::MAX, 0),
            (1, 0, 1),
            (2, 0, 0),
            (3, 0, 0),
            (0, 1, 1),
            (0, 0, 0),
            (0, 0, 251),
        ] {
            assert_eq!(query(&rdl(reg0, reg1, n), 13), Err(Failure::Unknown), "{reg0} {reg1} {n}");
        }
    }
}
