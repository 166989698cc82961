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
/// More values than two, since EFLAGS.AC changes too often to flush the TLB with it: while it is
/// set, SMAP lets supervisor code at user pages, and user code may have to align its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Privilege {
    /// CPL 3.
    User,
    /// CPL below 3, EFLAGS.AC clear.
    Supervisor,
    /// CPL below 3, EFLAGS.AC set.
    SupervisorAc,
    /// CPL 3 with alignment checks. The TLB never serves it, so that every access is seen.
    UserAligned,
}

impl Privilege {
    /// Of the processor's own accesses to the GDT, LDT, IDT and TSS, at every CPL: AC does not
    /// help them.
    pub const IMPLICIT: Self = Self::Supervisor;

    /// All values, by discriminant.
    pub const ALL: [Self; 4] =
        [Self::User, Self::Supervisor, Self::SupervisorAc, Self::UserAligned];

    /// CPL 3.
    #[inline]
    #[must_use]
    pub const fn is_user(self) -> bool {
        matches!(self, Self::User | Self::UserAligned)
    }

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
