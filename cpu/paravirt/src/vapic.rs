//! The word by which a guest that its VMM has patched knows its task priority: it reads and writes memory
//! in place of the register, and calls the host where a requested interrupt may have become possible
//! ([`crate::hypercall::VAPIC_POLL_IRQ`]). `arch/x86/kvm/lapic.c`, `kvm_lapic_sync_to_vapic`.

/// Bytes of the word, which may lie anywhere.
pub const SIZE: usize = 4;

/// The word: task priority, priority class of the highest vector in service, 0, highest requested
/// vector. The guest changes the lowest byte.
#[must_use]
pub fn word(task_priority: u8, in_service: Option<u8>, requested: Option<u8>) -> [u8; SIZE] {
    [task_priority, in_service.unwrap_or(0) & 0xF0, 0, requested.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_0() {
        assert_eq!(word(0x21, None, None), [0x21, 0, 0, 0]);
        assert_eq!(word(0, Some(0x45), Some(0x31)), [0, 0x40, 0, 0x31]);
    }
}
