//! Extension: event_get_all, event_set_all. What a VS has yet to take, so that a root can save and
//! restore it; inject_exception and queue_interrupt only add to it.
#![allow(missing_docs, reason = "the names follow the specification's")]

super::define::constants! {
    /// An exception waits.
    MV_EVENT_EXCEPTION = 1 << 0;
    /// Its delivery has begun; CR2 or DR6 have their values.
    MV_EVENT_EXCEPTION_INJECTED = 1 << 1;
    MV_EVENT_EXCEPTION_HAS_ERROR_CODE = 1 << 2;
    /// CR2 (#PF) or the causes in DR6 (#DB) are set when it is delivered.
    MV_EVENT_EXCEPTION_HAS_PAYLOAD = 1 << 3;
    /// An external interrupt waits until the VS takes one.
    MV_EVENT_INTERRUPT = 1 << 4;
    MV_EVENT_NMI = 1 << 5;
    /// An NMI whose delivery has begun, blocked or not.
    MV_EVENT_NMI_INJECTED = 1 << 6;
    MV_EVENT_NMI_BLOCKED = 1 << 7;
    /// No interrupt before the next instruction, after STI.
    MV_EVENT_SHADOW_STI = 1 << 8;
    /// The same after a load of SS, which keeps debug traps out as well.
    MV_EVENT_SHADOW_MOV_SS = 1 << 9;
    /// The next run leaves with reason shutdown.
    MV_EVENT_TRIPLE_FAULT = 1 << 10;
    /// An interrupt whose delivery has begun; event_set_all takes it for one that waits.
    MV_EVENT_INTERRUPT_INJECTED = 1 << 11;
    /// An SMI waits until the VS is not in system management mode.
    MV_EVENT_SMI = 1 << 16;
    /// The VS is in system management mode.
    MV_EVENT_SMM = 1 << 17;
    /// NMIs were blocked when it entered that mode; counts with MV_EVENT_SMM.
    MV_EVENT_SMM_INSIDE_NMI = 1 << 18;
    /// An INIT waits until the VS is not in system management mode, where it has a local APIC.
    MV_EVENT_INIT = 1 << 19;
    MV_EVENT_ALL = 0xF_0FFF;
}

super::define::layouts! {
    mv_event_t, size 0x20 {
        /// MV_EVENT_*; a field counts if its flag is set, and is 0 else.
        0x00 flags: u64,
        /// 0 to 31, not 2.
        0x08 exception_vector: u32,
        0x0C exception_error_code: u32,
        0x10 exception_payload: u64,
        /// 0 to 255; of the injected one if there are two.
        0x18 interrupt_vector: u32,
        0x1C reserved: u32,
    }
}
