//! CPUID table entries.

/// What CPUID answers for one leaf (and, where it matters, one subleaf).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidEntry {
    /// Leaf, EAX on input.
    pub function: u32,
    /// Subleaf, ECX on input; meaningful only with `significant_index`.
    pub index: u32,
    /// The entry answers only for its own subleaf.
    pub significant_index: bool,
    /// EAX on output.
    pub eax: u32,
    /// EBX on output.
    pub ebx: u32,
    /// ECX on output.
    pub ecx: u32,
    /// EDX on output.
    pub edx: u32,
}

/// The entry that answers CPUID for a leaf and subleaf.
#[must_use]
pub fn find_cpuid(table: &[CpuidEntry], function: u32, index: u32) -> Option<&CpuidEntry> {
    table.iter().find(|entry| {
        entry.function == function && (!entry.significant_index || entry.index == index)
    })
}
