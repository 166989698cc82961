//! Loading of the PDPTE registers of PAE paging.

mod ram;

use cpu_mem::PageFlags;
use cpu_mmu::load_pdptes;

use ram::Ram;

const TABLE: u64 = 0x1fe0;

fn with_entries(entries: [u64; 4]) -> Ram {
    let ram = Ram::at([0x1000]);
    (TABLE..).step_by(8).zip(entries).for_each(|(place, entry)| ram.write(place, entry));
    ram
}

#[test]
fn four_entries_are_read_from_a_table_aligned_to_32_bytes() {
    let entries = [0x2001, 0, 0x4019, 0xffff_ffff_ffff_fffe];
    let ram = with_entries(entries);
    assert_eq!(load_pdptes(TABLE | 0x1f, &ram.map, 40), Some(entries));
}

#[test]
fn the_upper_half_of_cr3_is_ignored() {
    let ram = with_entries([0x2001, 0, 0, 0]);
    assert!(load_pdptes(TABLE | 1 << 32, &ram.map, 40).is_some());
}

#[test]
fn reserved_bits_of_present_entries_are_refused() {
    let result = |entry| load_pdptes(TABLE, &with_entries([0, 0, 0, entry]).map, 40);
    for bit in [1, 2, 5, 6, 7, 8, 40, 51, 52, 62, 63] {
        assert_eq!(result(1 << bit | 1), None, "bit {bit}");
        assert!(result(1 << bit).is_some(), "bit {bit} of an absent entry");
    }
    for bit in [3, 4, 9, 11, 12, 39] {
        assert!(result(1 << bit | 1).is_some(), "bit {bit}");
    }
}

#[test]
fn a_table_outside_of_readable_memory_is_refused() {
    let mut ram = Ram::at([]);
    assert_eq!(load_pdptes(0x3000, &ram.map, 40), None);
    ram.add(0x3000, PageFlags::WRITE);
    assert_eq!(load_pdptes(0x3000, &ram.map, 40), None);
}
