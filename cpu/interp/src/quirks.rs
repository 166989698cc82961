//! Where a processor under a hypervisor is not like a bare one, unless its host says otherwise.

/// What KVM does by default, `Documentation/virt/kvm/api.rst`, "KVM_CAP_DISABLE_QUIRKS2".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// The other vendor's instruction for a hypercall is overwritten with the guest's own; without
    /// this it is #UD.
    pub repair_hypercall: bool,
    /// MONITOR and MWAIT are NOPs even if CPUID does not announce them; without this they are #UD
    /// then.
    pub mwait_never_undefined: bool,
    /// CPUID announces MONITOR and MWAIT as the table says; without this as IA32_MISC_ENABLE says.
    pub mwait_by_table: bool,
    /// An OUT to port 7EH is over when it leaves; others are over when the guest goes on.
    pub out_7e_steps: bool,
}

impl Default for Quirks {
    fn default() -> Self {
        Quirks {
            repair_hypercall: true,
            mwait_never_undefined: true,
            mwait_by_table: true,
            out_7e_steps: true,
        }
    }
}
