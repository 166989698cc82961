//! Extension: quirks_set. Where the processors of a VM are not like bare ones.
#![allow(missing_docs, reason = "the names follow the specification's")]

super::define::constants! {
    /// The other vendor's instruction for a hypercall is overwritten with the guest's own, not #UD.
    MV_QUIRK_HYPERCALL_REPAIR = 1 << 0;
    /// MONITOR and MWAIT are never #UD.
    MV_QUIRK_MWAIT_NEVER_UNDEFINED = 1 << 1;
    /// CPUID announces MONITOR and MWAIT as its table says, not as IA32_MISC_ENABLE does.
    MV_QUIRK_MWAIT_BY_TABLE = 1 << 2;
    /// An OUT to port 7EH is over when it leaves.
    MV_QUIRK_OUT_7E_STEPS = 1 << 3;
    /// LINT0 of the bootstrap processor's local APIC begins open for the 8259As. Counts when the VS is
    /// made.
    MV_QUIRK_LINT0_OPEN = 1 << 4;
    /// The page of a local APIC that is off, or in x2APIC mode, reads as ones and swallows writes.
    MV_QUIRK_APIC_HOLE = 1 << 5;
    MV_QUIRK_ALL = 0x3F;
}
