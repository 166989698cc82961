//! Who touches a linear address, and how.

/// What an access does with the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessKind {
    /// A load.
    Read,
    /// A store, or the load of a read-modify-write.
    Write,
    /// An instruction fetch.
    Execute,
}

/// With which rights an access is checked ("Determination of Access Rights").
///
/// Three values and not two, since SMAP lets supervisor code at user pages only while EFLAGS.AC is
/// set, and AC changes too often to flush the TLB with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Privilege {
    /// CPL 3.
    User,
    /// CPL below 3, EFLAGS.AC clear.
    Supervisor,
    /// CPL below 3, EFLAGS.AC set.
    SupervisorAc,
}

impl Privilege {
    /// Of the processor's own accesses to the GDT, LDT, IDT and TSS, at every CPL: AC does not
    /// help them.
    pub const IMPLICIT: Self = Self::Supervisor;

    /// All values, by discriminant.
    pub const ALL: [Self; 3] = [Self::User, Self::Supervisor, Self::SupervisorAc];

    /// Of an access that an instruction names; `ac` is EFLAGS.AC.
    #[inline]
    pub const fn explicit(cpl: u8, ac: bool) -> Self {
        match (cpl, ac) {
            (3, _) => Self::User,
            (_, false) => Self::Supervisor,
            (_, true) => Self::SupervisorAc,
        }
    }
}

/// One access to a linear address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// What it does.
    pub kind: AccessKind,
    /// Who does it.
    pub privilege: Privilege,
}
