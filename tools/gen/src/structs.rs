//! Layouts of KVM's structures as `ctypes.Structure` classes, offsets taken from `kvm-bindings`, and
//! of those of patch series from `kvmshim_door::series`.
//!
//! A structure that ends in an array of entries (`kvm_msrs`, `kvm_cpuid2`, `kvm_msr_list`) has
//! only its head here; the array follows it in memory.

use std::mem::offset_of;

use kvm_bindings as kvm;
use kvmshim_door::series;

use crate::python;

/// A type that `ctypes` can say.
trait Ctype {
    /// The `ctypes` expression.
    fn ctype() -> String;
    /// What a type checker sees when the attribute is read.
    fn seen() -> String;
}

macro_rules! ctype_integers {
    ($($type:ty = $name:literal),*) => {$(
        impl Ctype for $type {
            fn ctype() -> String { $name.into() }
            fn seen() -> String { "int".into() }
        }
    )*};
}
ctype_integers!(
    i8 = "c_int8",
    i16 = "c_int16",
    i32 = "c_int32",
    i64 = "c_int64",
    u8 = "c_uint8",
    u16 = "c_uint16",
    u32 = "c_uint32",
    u64 = "c_uint64",
    *mut u8 = "c_uint64"
);
// Pointers of the client, as the kernel pads them.
ctype_integers!(
    kvm::kvm_dirty_log__bindgen_ty_1 = "c_uint64",
    kvm::kvm_clear_dirty_log__bindgen_ty_1 = "c_uint64"
);
// Numbers under two names.
ctype_integers!(
    kvm::kvm_coalesced_mmio_zone__bindgen_ty_1 = "c_uint32",
    kvm::kvm_coalesced_mmio__bindgen_ty_1 = "c_uint32"
);

impl<T: Ctype, const N: usize> Ctype for [T; N] {
    fn ctype() -> String {
        format!("{} * {N}", T::ctype())
    }
    fn seen() -> String {
        format!("Array[{}]", T::ctype().split(" * ").next().unwrap_or_default())
    }
}

struct Field {
    name: &'static str,
    offset: usize,
    size: usize,
    ctype: String,
    seen: String,
}

struct Layout {
    name: &'static str,
    size: usize,
    fields: Vec<Field>,
}

fn field<S, T: Ctype>(name: &'static str, offset: usize, _: impl Fn(&S) -> &T) -> Field {
    Field { name, offset, size: size_of::<T>(), ctype: T::ctype(), seen: T::seen() }
}

/// The name in Python: the field's own, unless the kernel gives it none.
macro_rules! name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:ident) => {
        stringify!($name)
    };
}

macro_rules! layouts {
    ($($name:literal = $type:ty { $($field:ident $(: $named:ident)?)* })*) => {
        fn layouts() -> Vec<Layout> {
            vec![$(Layout {
                name: $name,
                size: size_of::<$type>(),
                fields: vec![$(field(name!($field $($named)?), offset_of!($type, $field),
                                     |s: &$type| &s.$field)),*],
            }),*]
        }
        $(impl Ctype for $type {
            fn ctype() -> String { $name.into() }
            fn seen() -> String { $name.into() }
        })*
    };
}

/// Unions, as what their members are in memory.
macro_rules! ctype_unions {
    ($($type:ty = $bytes:ty),*) => {$(
        impl Ctype for $type {
            fn ctype() -> String { <$bytes as Ctype>::ctype() }
            fn seen() -> String { <$bytes as Ctype>::seen() }
        }
        const _: () = assert!(size_of::<$type>() == size_of::<$bytes>());
    )*};
}
ctype_unions!(
    kvm::kvm_irq_level__bindgen_ty_1 = u32,
    kvm::kvm_irqchip__bindgen_ty_1 = [u8; 512],
    kvm::kvm_ioapic_state__bindgen_ty_1 = u64,
    kvm::kvm_irq_routing_entry__bindgen_ty_1 = [u8; 32]
);

layouts! {
    "kvm_segment" = kvm::kvm_segment {
        base limit selector type_ present dpl db s l g avl unusable padding
    }
    "kvm_dtable" = kvm::kvm_dtable { base limit padding }
    "kvm_regs" = kvm::kvm_regs {
        rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags
    }
    "kvm_sregs" = kvm::kvm_sregs {
        cs ds es fs gs ss tr ldt gdt idt cr0 cr2 cr3 cr4 cr8 efer apic_base interrupt_bitmap
    }
    "kvm_fpu" = kvm::kvm_fpu {
        fpr fcw fsw ftwx pad1 last_opcode last_ip last_dp xmm mxcsr pad2
    }
    "kvm_xsave" = kvm::kvm_xsave { region }
    "kvm_xcr" = kvm::kvm_xcr { xcr reserved value }
    "kvm_xcrs" = kvm::kvm_xcrs { nr_xcrs flags xcrs padding }
    "kvm_debugregs" = kvm::kvm_debugregs { db dr6 dr7 flags reserved }
    "kvm_translation" = kvm::kvm_translation {
        linear_address physical_address valid writeable usermode pad
    }
    "kvm_translation2" = series::kvm_translation2 {
        linear_address flags access padding physical_address valid error_code set_bits_succeeded
        padding2
    }
    "kvm_signal_mask" = kvm::kvm_signal_mask { len }
    "kvm_interrupt" = kvm::kvm_interrupt { irq }
    "kvm_sregs2" = kvm::kvm_sregs2 {
        cs ds es fs gs ss tr ldt gdt idt cr0 cr2 cr3 cr4 cr8 efer apic_base flags pdptrs
    }
    "kvm_events_exception" = kvm::kvm_vcpu_events__bindgen_ty_1 {
        injected nr has_error_code pending error_code
    }
    "kvm_events_interrupt" = kvm::kvm_vcpu_events__bindgen_ty_2 { injected nr soft shadow }
    "kvm_events_nmi" = kvm::kvm_vcpu_events__bindgen_ty_3 { injected pending masked pad }
    "kvm_events_smi" = kvm::kvm_vcpu_events__bindgen_ty_4 { smm pending smm_inside_nmi latched_init }
    "kvm_events_triple_fault" = kvm::kvm_vcpu_events__bindgen_ty_5 { pending }
    "kvm_vcpu_events" = kvm::kvm_vcpu_events {
        exception interrupt nmi sipi_vector flags smi triple_fault reserved exception_has_payload
        exception_payload
    }
    "kvm_sync_regs" = kvm::kvm_sync_regs { regs sregs events }
    "kvm_clock_data" = kvm::kvm_clock_data { clock flags pad0 realtime host_tsc pad }
    "kvm_tpr_access_ctl" = kvm::kvm_tpr_access_ctl { enabled flags reserved }
    "kvm_hyperv_tlb_flush_inhibit" = series::kvm_hyperv_tlb_flush_inhibit {
        flags inhibit reserved
    }
    "kvm_enable_cap" = kvm::kvm_enable_cap { cap flags args pad }
    "kvm_dirty_log" = kvm::kvm_dirty_log { slot padding1 __bindgen_anon_1: dirty_bitmap }
    "kvm_clear_dirty_log" = kvm::kvm_clear_dirty_log {
        slot num_pages first_page __bindgen_anon_1: dirty_bitmap
    }
    "kvm_guest_debug_arch" = kvm::kvm_guest_debug_arch { debugreg }
    "kvm_guest_debug" = kvm::kvm_guest_debug { control pad arch }
    "kvm_x86_mce" = kvm::kvm_x86_mce { status addr misc mcg_status bank pad1 pad2 }
    "kvm_msr_filter_range" = kvm::kvm_msr_filter_range { flags nmsrs base bitmap }
    "kvm_msr_filter" = kvm::kvm_msr_filter { flags ranges }
    "kvm_device_attr" = kvm::kvm_device_attr { flags group attr addr }
    "kvm_stats_header" = kvm::kvm_stats_header {
        flags name_size num_desc id_offset desc_offset data_offset
    }
    "kvm_stats_desc" = kvm::kvm_stats_desc { flags exponent size offset bucket_size }
    "kvm_msr_entry" = kvm::kvm_msr_entry { index reserved data }
    "kvm_msrs" = kvm::kvm_msrs { nmsrs pad }
    "kvm_msr_list" = kvm::kvm_msr_list { nmsrs }
    "kvm_cpuid_entry2" = kvm::kvm_cpuid_entry2 {
        function index flags eax ebx ecx edx padding
    }
    "kvm_cpuid_entry" = kvm::kvm_cpuid_entry { function eax ebx ecx edx padding }
    "kvm_cpuid2" = kvm::kvm_cpuid2 { nent padding }
    "kvm_mp_state" = kvm::kvm_mp_state { mp_state }
    "kvm_userspace_memory_region" = kvm::kvm_userspace_memory_region {
        slot flags guest_phys_addr memory_size userspace_addr
    }
    "kvm_userspace_memory_region2" = kvm::kvm_userspace_memory_region2 {
        slot flags guest_phys_addr memory_size userspace_addr guest_memfd_offset guest_memfd
        pad1 pad2
    }
    "kvm_coalesced_mmio_zone" = kvm::kvm_coalesced_mmio_zone {
        addr size __bindgen_anon_1: pio
    }
    "kvm_coalesced_mmio" = kvm::kvm_coalesced_mmio { phys_addr len __bindgen_anon_1: pio data }
    "kvm_dirty_gfn" = kvm::kvm_dirty_gfn { flags slot offset }
    "kvm_memory_attributes" = kvm::kvm_memory_attributes { address size attributes flags }
    "kvm_create_guest_memfd" = kvm::kvm_create_guest_memfd { size flags reserved }
    "kvm_pre_fault_memory" = kvm::kvm_pre_fault_memory { gpa size flags padding }
    "kvm_irq_level" = kvm::kvm_irq_level { __bindgen_anon_1: irq level }
    "kvm_irqchip" = kvm::kvm_irqchip { chip_id pad chip }
    "kvm_pic_state" = kvm::kvm_pic_state {
        last_irr irr imr isr priority_add irq_base read_reg_select poll special_mask init_state
        auto_eoi rotate_on_auto_eoi special_fully_nested_mode init4 elcr elcr_mask
    }
    "kvm_ioapic_state" = kvm::kvm_ioapic_state {
        base_address ioregsel id irr pad redirtbl
    }
    "kvm_irq_routing" = kvm::kvm_irq_routing { nr flags }
    "kvm_irq_routing_entry" = kvm::kvm_irq_routing_entry { gsi type_ flags pad u }
    "kvm_irq_routing_irqchip" = kvm::kvm_irq_routing_irqchip { irqchip pin }
    "kvm_irq_routing_hv_sint" = kvm::kvm_irq_routing_hv_sint { vcpu sint }
    "kvm_irq_routing_msi" = kvm::kvm_irq_routing_msi { address_lo address_hi data }
    "kvm_msi" = kvm::kvm_msi { address_lo address_hi data flags devid pad }
    "kvm_irqfd" = kvm::kvm_irqfd { fd gsi flags resamplefd pad }
    "kvm_pit_config" = kvm::kvm_pit_config { flags pad }
    "kvm_pit_channel_state" = kvm::kvm_pit_channel_state {
        count latched_count count_latched status_latched status read_state write_state
        write_latch rw_mode mode bcd gate count_load_time
    }
    "kvm_pit_state" = kvm::kvm_pit_state { channels }
    "kvm_create_device" = kvm::kvm_create_device { type_ fd flags }
    "kvm_pit_state2" = kvm::kvm_pit_state2 { channels flags reserved }
    "kvm_reinject_control" = kvm::kvm_reinject_control { pit_reinject reserved }
    "kvm_lapic_state" = kvm::kvm_lapic_state { regs }
    "kvm_hyperv_eventfd" = kvm::kvm_hyperv_eventfd { conn_id fd flags padding }
    "kvm_ioeventfd" = kvm::kvm_ioeventfd { datamatch addr len fd flags }
    "kvm_run" = kvm::kvm_run {
        request_interrupt_window immediate_exit padding1 exit_reason
        ready_for_interrupt_injection if_flag flags cr8 apic_base kvm_valid_regs kvm_dirty_regs
    }
    "kvm_run_io" = kvm::kvm_run__bindgen_ty_1__bindgen_ty_4 {
        direction size port count data_offset
    }
    "kvm_run_mmio" = kvm::kvm_run__bindgen_ty_1__bindgen_ty_6 { phys_addr data len is_write }
    "kvm_run_fail_entry" = kvm::kvm_run__bindgen_ty_1__bindgen_ty_2 {
        hardware_entry_failure_reason cpu
    }
    "kvm_run_debug" = kvm::kvm_debug_exit_arch { exception pad pc dr6 dr7 }
    "kvm_run_msr" = kvm::kvm_run__bindgen_ty_1__bindgen_ty_23 { error pad reason index data }
    "kvm_run_tpr_access" = kvm::kvm_run__bindgen_ty_1__bindgen_ty_9 { rip is_write pad }
    "kvm_run_memory_fault" = kvm::kvm_run__bindgen_ty_1__bindgen_ty_27 { flags gpa size }
    "kvm_run_internal" = kvm::kvm_run__bindgen_ty_1__bindgen_ty_13 { suberror ndata data }
}

/// Offset of the union of exit details in `kvm_run`.
const KVM_RUN_EXIT_OFFSET: usize = offset_of!(kvm::kvm_run, __bindgen_anon_1);

/// Offset of the registers in `kvm_run` that KVM_CAP_SYNC_REGS keeps.
const KVM_RUN_SYNC_OFFSET: usize = offset_of!(kvm::kvm_run, s);

/// The text of `kvmshim/abi/structs_gen.py`.
pub fn python() -> String {
    let mut text = python::head(
        "Layouts of the structures of `linux/kvm.h`, and of patch series.",
        "`kvm-bindings` by `tools/gen/src/structs.rs`",
    );
    text.push_str(
        "from ctypes import (Array, Structure, c_int8, c_int16, c_int32, c_int64, c_uint8, c_uint16,\n\
         c_uint32, c_uint64, sizeof)\n\
         from typing import Final\n\n",
    );
    text.push_str(&python::constant("KVM_RUN_EXIT_OFFSET", KVM_RUN_EXIT_OFFSET as u64));
    text.push_str(&python::constant("KVM_RUN_SYNC_OFFSET", KVM_RUN_SYNC_OFFSET as u64));
    for layout in layouts() {
        text.push_str(&class(&layout));
    }
    text
}

fn class(layout: &Layout) -> String {
    let mut seen = String::new();
    let mut rows = String::new();
    let mut at = 0;
    for field in &layout.fields {
        if field.offset > at {
            rows.push_str(&gap(at, field.offset));
        }
        seen.push_str(&format!("    {}: {}\n", field.name, field.seen));
        rows.push_str(&format!("        (\"{}\", {}),\n", field.name, field.ctype));
        at = field.offset + field.size;
    }
    if layout.size > at {
        rows.push_str(&gap(at, layout.size));
    }
    format!(
        "\n\nclass {name}(Structure):\n    \"\"\"`struct {name}`, {size} bytes.\"\"\"\n\n{seen}\n    \
         _pack_ = 1\n    _fields_ = (\n{rows}    )\n\n\nassert sizeof({name}) == {size}\n",
        name = layout.name,
        size = layout.size,
    )
}

fn gap(from: usize, to: usize) -> String {
    format!("        (\"_at_{from:x}\", c_uint8 * {}),\n", to - from)
}
