//! Interrupt controllers of a VM: creation, lines, routing, messages, registers.

use std::sync::Arc;

use cpu_chipset::{IOAPIC_PINS, Ioapic, Pic, RedirectionEntry};
use zerocopy::FromZeros;

use crate::abi::irqchip as abi;
use crate::abi::irqchip::{mv_gsi_entry_t, mv_gsi_list_t, mv_ioapic_t, mv_line_list_t, mv_pic_t};
use crate::call::Call;
use crate::irqchip::routing::Route;
use crate::irqchip::{Irqchip, LineOutcome, Model, Source};
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};

/// R12 is MV_IRQCHIP_*, R13 the lines of a split model. Refused where the VM has controllers or a VP.
pub fn create(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let model = match call.regs.r12 {
        abi::MV_IRQCHIP_FULL => Model::Full,
        abi::MV_IRQCHIP_SPLIT => {
            let pins = u32::try_from(call.regs.r13).ok();
            let pins = pins.filter(|pins| u64::from(*pins) <= abi::MV_GSI_MAX);
            Model::Split { pins: pins.ok_or(Failure::Reg3)? }
        }
        _ => return Err(Failure::Reg2),
    };
    let new = Irqchip::new(model, Arc::clone(&vm.x2apic_format));
    if !vm.vcpus().is_empty() || vm.irqchip.set(new).is_err() {
        return Err(Failure::Unknown);
    }
    Ok(Outcome::Done)
}

/// R12 is the line, R13 MV_IRQ_*. R10 becomes the number of interrupts raised. As with each interrupt of
/// the root, code that the root has written before takes effect when the guest takes it.
pub fn irq_line(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let irqchip = vm.irqchip.get().ok_or(Failure::Unknown)?;
    let gsi = u32::try_from(call.regs.r12).map_err(|_| Failure::Reg2)?;
    if call.regs.r13 & !(abi::MV_IRQ_LEVEL | abi::MV_IRQ_RESAMPLED) != 0 {
        return Err(Failure::Reg3);
    }
    vm.memory.normal.code_marks().distrust();
    let high = call.regs.r13 & abi::MV_IRQ_LEVEL != 0;
    let resampled = call.regs.r13 & abi::MV_IRQ_RESAMPLED != 0;
    let source = if resampled { Source::Resampled } else { Source::Root };
    Ok(answer(irqchip.drive(&vm.vcpus(), gsi, source, high)))
}

/// R12 is the address, R13 the data of a message.
pub fn signal_msi(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let irqchip = vm.irqchip.get().ok_or(Failure::Unknown)?;
    let data = u32::try_from(call.regs.r13).map_err(|_| Failure::Reg3)?;
    vm.memory.normal.code_marks().distrust();
    let message = irqchip.message(call.regs.r12, data);
    Ok(answer(irqchip.send(&vm.vcpus(), &message).into()))
}

/// R12 is MV_X2APIC_*: how messages of devices name local APICs in x2APIC mode.
pub fn x2apic_format_set(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let flags = call.regs.r12;
    if flags & !abi::MV_X2APIC_ALL != 0 {
        return Err(Failure::Reg2);
    }
    let wide_ids = flags & abi::MV_X2APIC_WIDE_IDS != 0;
    vm.x2apic_format.set(wide_ids, flags & abi::MV_X2APIC_NO_BYTE_BROADCAST == 0);
    Ok(Outcome::Done)
}

fn answer(outcome: LineOutcome) -> Outcome {
    Outcome::Value(match outcome {
        LineOutcome::Ignored => abi::MV_IRQ_IGNORED,
        LineOutcome::Coalesced => 0,
        LineOutcome::Raised(count) => count as u64,
    })
}

/// A part of the routing table is on the page; R12 is MV_GSI_LIST_*. The table takes effect with its
/// last part, and not at all where a part was refused.
pub fn gsi_list_set(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let irqchip = vm.irqchip.get().ok_or(Failure::Unknown)?;
    let flags = call.regs.r12;
    if flags & !(abi::MV_GSI_LIST_FIRST | abi::MV_GSI_LIST_LAST) != 0 {
        return Err(Failure::Reg2);
    }
    let list: mv_gsi_list_t = call.pp.page()?.read();
    let entries = list.entries.get(..list.num_entries as usize).ok_or(Failure::Unknown)?;
    let routes: Option<Vec<_>> = entries.iter().map(|entry| route(entry, irqchip)).collect();
    let first = flags & abi::MV_GSI_LIST_FIRST != 0;
    let last = flags & abi::MV_GSI_LIST_LAST != 0;
    irqchip.stage_routes(routes.ok_or(Failure::Unknown)?, first, last).ok_or(Failure::Unknown)?;
    Ok(Outcome::Done)
}

fn route(entry: &mv_gsi_entry_t, irqchip: &Irqchip) -> Option<(u32, Route)> {
    let chips = irqchip.model() == Model::Full;
    let pin = u8::try_from(entry.address).ok();
    #[allow(non_upper_case_globals, reason = "the names are the specification's")]
    let route = match u64::from(entry.kind) {
        abi::mv_gsi_t_pic if chips => Route::Pic(pin.filter(|pin| *pin < 16)?),
        abi::mv_gsi_t_ioapic if chips => {
            Route::Ioapic(pin.filter(|pin| usize::from(*pin) < IOAPIC_PINS)?)
        }
        abi::mv_gsi_t_msi => Route::Msi { address: entry.address, data: entry.data },
        abi::mv_gsi_t_sint => Route::Sint {
            vp_index: u32::try_from(entry.address).ok()?,
            sint: u8::try_from(entry.data).ok()?,
        },
        _ => return None,
    };
    (u64::from(entry.gsi) < abi::MV_GSI_MAX).then_some((entry.gsi, route))
}

/// R12 is MV_CHIP_*; its registers go to the page.
pub fn chip_get(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let irqchip = full(vm.irqchip.get())?;
    let page = call.pp.page()?;
    match call.regs.r12 {
        abi::MV_CHIP_PIC_MASTER => page.write(0, &pic_layout(&irqchip.pics().master)),
        abi::MV_CHIP_PIC_SLAVE => page.write(0, &pic_layout(&irqchip.pics().slave)),
        abi::MV_CHIP_IOAPIC => page.write(0, &ioapic_layout(&irqchip.ioapic())),
        _ => return Err(Failure::Reg2),
    }
    Ok(Outcome::Done)
}

/// R12 is MV_CHIP_*; its registers come from the page.
pub fn chip_set(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let irqchip = full(vm.irqchip.get())?;
    let page = call.pp.page()?;
    let vcpus = vm.vcpus();
    match call.regs.r12 {
        abi::MV_CHIP_PIC_MASTER => irqchip.set_pic(&vcpus, true, pic(&page.read())),
        abi::MV_CHIP_PIC_SLAVE => irqchip.set_pic(&vcpus, false, pic(&page.read())),
        abi::MV_CHIP_IOAPIC => irqchip.set_ioapic(&vcpus, ioapic(&page.read())),
        _ => return Err(Failure::Reg2),
    }
    Ok(Outcome::Done)
}

/// Lines whose interrupts have ended go to the page, as many as fit; the rest waits.
pub fn lines_ended(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let irqchip = vm.irqchip.get().ok_or(Failure::Unknown)?;
    let page = call.pp.page()?;
    let mut list = mv_line_list_t::new_zeroed();
    let ended = irqchip.take_ended(list.lines.len());
    list.num_entries = ended.len() as u64;
    list.lines[..ended.len()].copy_from_slice(&ended);
    page.write(0, &list);
    Ok(Outcome::Done)
}

fn full(irqchip: Option<&Irqchip>) -> Result<&Irqchip, Failure> {
    irqchip.filter(|irqchip| irqchip.model() == Model::Full).ok_or(Failure::Unknown)
}

fn pic_layout(pic: &Pic) -> mv_pic_t {
    let flag = |set: bool, bit: u64| if set { bit as u8 } else { 0 };
    mv_pic_t {
        last_irr: pic.last_irr,
        irr: pic.irr,
        imr: pic.imr,
        isr: pic.isr,
        priority_add: pic.priority_add,
        irq_base: pic.irq_base,
        init_state: pic.init_state,
        elcr: pic.elcr,
        elcr_mask: pic.elcr_mask,
        flags: flag(pic.read_reg_select, abi::MV_PIC_READ_ISR)
            | flag(pic.poll, abi::MV_PIC_POLL)
            | flag(pic.special_mask, abi::MV_PIC_SPECIAL_MASK)
            | flag(pic.auto_eoi, abi::MV_PIC_AUTO_EOI)
            | flag(pic.rotate_on_auto_eoi, abi::MV_PIC_ROTATE_ON_AUTO_EOI)
            | flag(pic.special_fully_nested_mode, abi::MV_PIC_SPECIAL_FULLY_NESTED)
            | flag(pic.init4, abi::MV_PIC_INIT4),
        reserved: [0; 6],
    }
}

/// Any bytes are a state: what cannot be is cut to what can.
fn pic(layout: &mv_pic_t) -> Pic {
    let has = |bit: u64| layout.flags & bit as u8 != 0;
    Pic {
        last_irr: layout.last_irr,
        irr: layout.irr,
        imr: layout.imr,
        isr: layout.isr,
        priority_add: layout.priority_add & 7,
        irq_base: layout.irq_base,
        read_reg_select: has(abi::MV_PIC_READ_ISR),
        poll: has(abi::MV_PIC_POLL),
        special_mask: has(abi::MV_PIC_SPECIAL_MASK),
        init_state: layout.init_state & 3,
        auto_eoi: has(abi::MV_PIC_AUTO_EOI),
        rotate_on_auto_eoi: has(abi::MV_PIC_ROTATE_ON_AUTO_EOI),
        special_fully_nested_mode: has(abi::MV_PIC_SPECIAL_FULLY_NESTED),
        init4: has(abi::MV_PIC_INIT4),
        elcr: layout.elcr & layout.elcr_mask,
        elcr_mask: layout.elcr_mask,
    }
}

fn ioapic_layout(chip: &Ioapic) -> mv_ioapic_t {
    mv_ioapic_t {
        base_address: chip.base_address,
        ioregsel: chip.ioregsel,
        id: chip.id,
        irr: chip.irr & !chip.delivered,
        redirtbl: chip.redirtbl.map(|entry| entry.0),
        ..mv_ioapic_t::new_zeroed()
    }
}

fn ioapic(layout: &mv_ioapic_t) -> Ioapic {
    Ioapic {
        base_address: layout.base_address,
        ioregsel: layout.ioregsel & 0xFF,
        id: layout.id & 0xF,
        irr: layout.irr & ((1 << IOAPIC_PINS) - 1),
        delivered: 0,
        redirtbl: layout.redirtbl.map(RedirectionEntry),
    }
}
