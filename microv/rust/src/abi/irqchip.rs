//! Extension: interrupt controllers and the timer of a VM, the local APIC of a VS.
//!
//! MicroV's specification leaves them out and says that they will come; numbers and layouts are
//! ours. Structures hold what the chips' registers hold, so that a root can save and restore them.
#![allow(missing_docs, non_upper_case_globals, reason = "the names follow the specification's")]

super::define::constants! {
    /// irqchip_create: the 8259A pair, the I/O APIC and local APICs.
    MV_IRQCHIP_FULL = 0;
    /// irqchip_create: local APICs only; R13 is how many lines the root's I/O APIC has.
    MV_IRQCHIP_SPLIT = 1;

    /// irq_line: R13 is the level and who drives the line.
    MV_IRQ_LEVEL = 1 << 0;
    /// irq_line: the line falls by itself when its interrupt ends, which the VS reports by leaving.
    MV_IRQ_RESAMPLED = 1 << 1;
    /// irq_line: R10 is how many interrupts were raised; these are other answers.
    MV_IRQ_IGNORED = 0xFFFF_FFFF_FFFF_FFFF;

    /// x2apic_format_set: bits 63:40 of a message's address are bits 31:8 of its destination.
    MV_X2APIC_WIDE_IDS = 1 << 0;
    /// x2apic_format_set: destination FFH of a device's message is no broadcast in x2APIC mode.
    MV_X2APIC_NO_BYTE_BROADCAST = 1 << 1;
    MV_X2APIC_ALL = 0x3;

    MV_GSI_MAX = 4096;
    MV_GSI_LIST_MAX_ENTRIES = 166;
    /// gsi_list_set: the list replaces the table; else it comes behind what earlier lists brought.
    MV_GSI_LIST_FIRST = 1 << 0;
    /// gsi_list_set: the table is complete and takes effect.
    MV_GSI_LIST_LAST = 1 << 1;
    /// Input of the 8259A pair, 0 to 15.
    mv_gsi_t_pic = 0;
    /// Pin of the I/O APIC, 0 to 23.
    mv_gsi_t_ioapic = 1;
    mv_gsi_t_msi = 2;
    /// Source of a synthetic interrupt controller; the address is the processor's number,
    /// HV_X64_MSR_VP_INDEX.
    mv_gsi_t_sint = 3;

    MV_CHIP_PIC_MASTER = 0;
    MV_CHIP_PIC_SLAVE = 1;
    MV_CHIP_IOAPIC = 2;

    MV_PIC_READ_ISR = 1 << 0;
    MV_PIC_POLL = 1 << 1;
    MV_PIC_SPECIAL_MASK = 1 << 2;
    MV_PIC_AUTO_EOI = 1 << 3;
    MV_PIC_ROTATE_ON_AUTO_EOI = 1 << 4;
    MV_PIC_SPECIAL_FULLY_NESTED = 1 << 5;
    MV_PIC_INIT4 = 1 << 6;

    /// lvt_raise: the source of corrected machine checks.
    mv_lvt_t_cmci = 0;

    /// pit_create: the device has port 61H.
    MV_PIT_SPEAKER = 1 << 0;
    MV_PIT_HPET_LEGACY = 1 << 0;
    MV_PIT_SPEAKER_DATA_ON = 1 << 1;
}

super::define::layouts! {
    mv_gsi_entry_t, size 0x18 {
        0x00 gsi: u32,
        /// mv_gsi_t.
        0x04 kind: u32,
        /// Pin, the address of the message, or a processor.
        0x08 address: u64,
        0x10 data: u32,
        0x14 reserved: u32,
    }

    mv_gsi_list_t, size 0x1000 {
        0x000 reserved: [u64; 1],
        0x008 num_entries: u64,
        0x010 entries: [mv_gsi_entry_t; 166],
        0xFA0 padding: [u64; 12],
    }

    mv_line_list_t, size 0x1000 {
        0x000 num_entries: u64,
        0x008 lines: [u32; 1022],
    }

    /// One 8259A.
    mv_pic_t, size 0x10 {
        0x00 last_irr: u8,
        0x01 irr: u8,
        0x02 imr: u8,
        0x03 isr: u8,
        0x04 priority_add: u8,
        0x05 irq_base: u8,
        0x06 init_state: u8,
        0x07 elcr: u8,
        0x08 elcr_mask: u8,
        /// MV_PIC_*.
        0x09 flags: u8,
        0x0A reserved: [u8; 6],
    }

    mv_ioapic_t, size 0xD8 {
        0x00 base_address: u64,
        0x08 ioregsel: u32,
        0x0C id: u32,
        0x10 irr: u32,
        0x14 reserved: u32,
        0x18 redirtbl: [u64; 24],
    }

    mv_pit_channel_t, size 0x20 {
        0x00 count: u32,
        /// Latched count in the low half.
        0x04 latched_count: u32,
        0x08 count_latched: u8,
        0x09 status_latched: u8,
        0x0A status: u8,
        0x0B read_state: u8,
        0x0C write_state: u8,
        0x0D write_latch: u8,
        0x0E rw_mode: u8,
        0x0F mode: u8,
        0x10 bcd: u8,
        0x11 gate: u8,
        0x12 reserved: [u8; 6],
        /// When the count was loaded, in nanoseconds of a clock that starts with the process; ignored
        /// on set, for counting starts anew.
        0x18 load_time_ns: u64,
    }

    mv_pit_t, size 0x68 {
        0x00 channels: [mv_pit_channel_t; 3],
        /// MV_PIT_HPET_LEGACY, MV_PIT_SPEAKER_DATA_ON.
        0x60 flags: u64,
    }
}
