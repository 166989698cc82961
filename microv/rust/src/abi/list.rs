//! Register descriptor lists (registers, MSRs) and CPUID descriptor lists.
#![allow(missing_docs, reason = "the names are the specification's")]

super::define::constants! {
    MV_RDL_MAX_ENTRIES = 250;
    /// In reg0: list everything, from entry reg1 on; out: reg1 = entries left after this page.
    MV_RDL_FLAG_ALL = 1 << 0;
    /// In the `reg` of an MSR list entry on return: this MSR was refused.
    MV_RDL_ENTRY_REFUSED = 1 << 63;
    /// Extension. In the `reg` of an entry of peek_list: the rest of it is an MSR.
    MV_RDL_ENTRY_MSR = 1 << 62;

    MV_CDL_MAX_ENTRIES = 125;
    /// Extension. In reg0 of a get: as MV_RDL_FLAG_ALL. In reg0 of cpuid_set_list: the list, which may
    /// be empty, is the whole table.
    MV_CDL_FLAG_ALL = 1 << 0;
    /// Extension. In reg0 of cpuid_set_list: the list comes behind the entries that are there.
    MV_CDL_FLAG_APPEND = 1 << 1;

    /// Extension. The entry answers for its subleaf only.
    MV_CPUID_FLAG_SIGNIFICANT_INDEX = 1 << 0;

    MV_PERM_READ = 1 << 0;
    MV_PERM_WRITE = 1 << 1;
}

super::define::layouts! {
    mv_rdl_entry_t, size 0x10 {
        /// mv_reg_t or MSR number.
        0x00 reg: u64,
        0x08 val: u64,
    }

    mv_rdl_t, size 0x1000 {
        0x000 reg: [u64; 8],
        0x040 reserved: [u64; 3],
        0x058 num_entries: u64,
        0x060 entries: [mv_rdl_entry_t; 250],
    }

    mv_cdl_entry_t, size 0x20 {
        /// Leaf, EAX on input.
        0x00 fun: u32,
        /// Subleaf, ECX on input.
        0x04 idx: u32,
        /// MV_CPUID_FLAG_*; other bits are ignored.
        0x08 flags: u32,
        0x0C eax: u32,
        0x10 ebx: u32,
        0x14 ecx: u32,
        0x18 edx: u32,
        0x1C reserved: u32,
    }

    mv_cdl_t, size 0x1000 {
        0x000 reg: [u64; 8],
        0x040 reserved: [u64; 3],
        0x058 num_entries: u64,
        0x060 entries: [mv_cdl_entry_t; 125],
    }
}
