//! The timer of a VM that has interrupt controllers.

use std::sync::{Arc, Weak};

use cpu_chipset::{Channel, Pit};
use zerocopy::FromZeros;

use crate::abi::irqchip as abi;
use crate::abi::irqchip::{mv_pit_channel_t, mv_pit_t};
use crate::call::Call;
use crate::irqchip::pit::{GSI, PitTimer};
use crate::irqchip::{Model, Source};
use crate::object::Vm;
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};

/// R12 is MV_PIT_SPEAKER or 0. Refused without a full set of controllers, and the second time.
pub fn create(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    if call.regs.r12 & !abi::MV_PIT_SPEAKER != 0 {
        return Err(Failure::Reg2);
    }
    if vm.irqchip.get().map(crate::irqchip::Irqchip::model) != Some(Model::Full) {
        return Err(Failure::Unknown);
    }
    let speaker = call.regs.r12 & abi::MV_PIT_SPEAKER != 0;
    let pulsed: Weak<Vm> = Arc::downgrade(&vm);
    let pit = PitTimer::new(speaker, move || pulse(&pulsed));
    vm.pit.set(pit).map_err(|_| Failure::Unknown)?;
    Ok(Outcome::Done)
}

fn pulse(vm: &Weak<Vm>) {
    let Some(vm) = vm.upgrade() else { return };
    let Some(irqchip) = vm.irqchip.get() else { return };
    let vcpus = vm.vcpus();
    irqchip.drive(&vcpus, GSI, Source::Pit, true);
    irqchip.drive(&vcpus, GSI, Source::Pit, false);
}

/// The registers go to the page.
pub fn get(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let pit = vm.pit.get().ok_or(Failure::Unknown)?;
    call.pp.page()?.write(0, &layout(&pit.chip()));
    Ok(Outcome::Done)
}

/// The registers come from the page; counting starts anew.
pub fn set(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let pit = vm.pit.get().ok_or(Failure::Unknown)?;
    let layout: mv_pit_t = call.pp.page()?.read();
    pit.set_chip(chip(&layout));
    Ok(Outcome::Done)
}

/// R12 is 0 or 1.
pub fn reinject(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let pit = vm.pit.get().ok_or(Failure::Unknown)?;
    match call.regs.r12 {
        value @ (0 | 1) => pit.set_reinject(value == 1),
        _ => return Err(Failure::Reg2),
    }
    Ok(Outcome::Done)
}

fn layout(chip: &Pit) -> mv_pit_t {
    let hpet = if chip.hpet_legacy { abi::MV_PIT_HPET_LEGACY } else { 0 };
    let speaker = if chip.speaker_data_on { abi::MV_PIT_SPEAKER_DATA_ON } else { 0 };
    mv_pit_t {
        channels: chip.channels.map(|channel| channel_layout(&channel)),
        flags: hpet | speaker,
    }
}

fn channel_layout(channel: &Channel) -> mv_pit_channel_t {
    mv_pit_channel_t {
        count: channel.count,
        latched_count: channel.latched_count.into(),
        count_latched: channel.count_latched,
        status_latched: channel.status_latched.into(),
        status: channel.status,
        read_state: channel.read_state,
        write_state: channel.write_state,
        write_latch: channel.write_latch,
        rw_mode: channel.rw_mode,
        mode: channel.mode,
        bcd: channel.bcd.into(),
        gate: channel.gate.into(),
        load_time_ns: channel.load_time_ns,
        ..mv_pit_channel_t::new_zeroed()
    }
}

fn chip(layout: &mv_pit_t) -> Pit {
    let mut chip = Pit::new();
    chip.channels = layout.channels.map(|channel| self::channel(&channel));
    chip.hpet_legacy = layout.flags & abi::MV_PIT_HPET_LEGACY != 0;
    chip.speaker_data_on = layout.flags & abi::MV_PIT_SPEAKER_DATA_ON != 0;
    chip
}

/// Any bytes are a state: a count of zero is the longest, as when it is written to the device.
fn channel(layout: &mv_pit_channel_t) -> Channel {
    Channel {
        count: if layout.count == 0 { 0x10000 } else { layout.count.min(0x10000) },
        latched_count: layout.latched_count as u16,
        count_latched: layout.count_latched,
        status_latched: layout.status_latched != 0,
        status: layout.status,
        read_state: layout.read_state,
        write_state: layout.write_state,
        write_latch: layout.write_latch,
        rw_mode: layout.rw_mode & 3,
        mode: layout.mode,
        bcd: layout.bcd != 0,
        gate: layout.gate != 0,
        load_time_ns: 0,
    }
}
