//! mv_vm_op: VMs, their memory, their interrupt controllers and timer.

mod hyperv;
mod irqchip;
mod pit;

use std::sync::atomic::Ordering;

use cpu_engine::CodeLimit;

use crate::abi::id::{MV_ROOT_VMID, MV_SELF_ID};
use crate::abi::index;
use crate::abi::map::mv_mdl_t;
use crate::abi::run::MV_HYPERCALL_LEAVE_MAP_GPA_RANGE;
use crate::call::Call;
use crate::mdl::Direction;
use crate::object::vm::MapClaim;
use crate::object::{RetireError, Vm};
use crate::op::{dirty_log, ids, msr_rules, pages, quirks, stats};
use crate::outcome::{Failure, OpResult, Outcome};
use crate::slots::{MapOperation, Progress};

/// Carries out operation `index` of the group.
pub fn call(call: &mut Call, index: u64) -> OpResult {
    match index {
        index::MV_VM_OP_CREATE_VM_IDX_VAL => create_vm(call),
        index::MV_VM_OP_DESTROY_VM_IDX_VAL => destroy_vm(call),
        index::MV_VM_OP_VMID_IDX_VAL => Ok(Outcome::Value(MV_ROOT_VMID)),
        index::MV_VM_OP_MMIO_MAP_IDX_VAL => mmio_map(call),
        index::MV_VM_OP_MMIO_UNMAP_IDX_VAL => map_or_unmap(call, Direction::Unmap),
        index::MV_VM_OP_CLOCK_GET_IDX_VAL => clock_get(call),
        index::MV_VM_OP_CLOCK_SET_IDX_VAL => clock_set(call),
        index::MV_VM_OP_DIRTY_LOG_NOTE_IDX_VAL => dirty_log::note(call),
        index::MV_VM_OP_DIRTY_LOG_CLEAR_LIST_IDX_VAL => dirty_log::clear_list(call),
        index::MV_VM_OP_DIRTY_LOG_SET_IDX_VAL => dirty_log::set(call),
        index::MV_VM_OP_DIRTY_LOG_GET_IDX_VAL => dirty_log::get(call),
        index::MV_VM_OP_DIRTY_LOG_CLEAR_IDX_VAL => dirty_log::clear(call),
        index::MV_VM_OP_MSR_LEAVE_SET_IDX_VAL => msr_rules::leave_set(call),
        index::MV_VM_OP_PLATFORM_INFO_SET_IDX_VAL => msr_rules::platform_info_set(call),
        index::MV_VM_OP_MSR_FILTER_SET_IDX_VAL => msr_rules::filter_set(call),
        index::MV_VM_OP_QUIRKS_SET_IDX_VAL => quirks::set(call),
        index::MV_VM_OP_HYPERV_CONNECT_IDX_VAL => hyperv::connect(call),
        index::MV_VM_OP_MMIO_REPLACE_IDX_VAL => map_or_unmap(call, Direction::Replace),
        index::MV_VM_OP_REFUSE_SET_IDX_VAL => pages::refuse_set(call),
        index::MV_VM_OP_POPULATE_IDX_VAL => pages::populate(call),
        index::MV_VM_OP_STATS_GET_IDX_VAL => stats::of_vm(call),
        index::MV_VM_OP_SET_TIME_BUDGET_IDX_VAL => set_time_budget(call),
        index::MV_VM_OP_IRQCHIP_CREATE_IDX_VAL => irqchip::create(call),
        index::MV_VM_OP_IRQ_LINE_IDX_VAL => irqchip::irq_line(call),
        index::MV_VM_OP_GSI_LIST_SET_IDX_VAL => irqchip::gsi_list_set(call),
        index::MV_VM_OP_SIGNAL_MSI_IDX_VAL => irqchip::signal_msi(call),
        index::MV_VM_OP_X2APIC_FORMAT_SET_IDX_VAL => irqchip::x2apic_format_set(call),
        index::MV_VM_OP_CHIP_GET_IDX_VAL => irqchip::chip_get(call),
        index::MV_VM_OP_CHIP_SET_IDX_VAL => irqchip::chip_set(call),
        index::MV_VM_OP_LINES_ENDED_IDX_VAL => irqchip::lines_ended(call),
        index::MV_VM_OP_PIT_CREATE_IDX_VAL => pit::create(call),
        index::MV_VM_OP_PIT_GET_IDX_VAL => pit::get(call),
        index::MV_VM_OP_PIT_SET_IDX_VAL => pit::set(call),
        index::MV_VM_OP_PIT_REINJECT_IDX_VAL => pit::reinject(call),
        index::MV_VM_OP_HYPERCALL_LEAVE_SET_IDX_VAL => hypercall_leave_set(call),
        _ => Err(Failure::Unsupported),
    }
}

fn create_vm(call: &Call) -> OpResult {
    cpu_mem::install_sigbus_guard().map_err(|_| Failure::Unknown)?;
    let mib = call.machine.code_cache_mib.load(Ordering::Relaxed);
    let limit = || CodeLimit::from_mib(mib).unwrap_or_default();
    let create = |id| Vm::new(id).with_code_limit(limit());
    let vm = call.machine.vms.create(create).ok_or(Failure::Unknown)?;
    Ok(Outcome::Value(vm.id().into()))
}

/// Refused for the root VM and while a VP or a map or unmap under way stands on the VM.
fn destroy_vm(call: &Call) -> OpResult {
    if u64::from(ids::id(call.regs.r11)) == MV_ROOT_VMID {
        return Err(Failure::Unknown);
    }
    let vm = ids::vm(call)?;
    vm.members.retire()?;
    call.machine.vms.remove(vm.id());
    Ok(Outcome::Done)
}

/// R11 the VM that gets memory, R12 the VM that gives it: the root, by ID or as SELF.
fn mmio_map(call: &mut Call) -> OpResult {
    ids::vm(call)?;
    match u64::from(ids::id(call.regs.r12)) {
        MV_ROOT_VMID | MV_SELF_ID => map_or_unmap(call, Direction::Map),
        _ => Err(Failure::Reg2),
    }
}

/// Begins what the list on the page asks for, or continues it where this call is the identical one.
/// While another call for the VM is under way this one waits by "call again".
fn map_or_unmap(call: &mut Call, direction: Direction) -> OpResult {
    let vm = ids::vm(call)?;
    let mdl: mv_mdl_t = call.pp.page()?.read();
    if !call.pp.operation.as_ref().is_some_and(|unfinished| unfinished.is_for(&call.regs, &mdl)) {
        call.pp.operation = None;
        let Some(claim) = MapClaim::new(vm) else { return Ok(Outcome::Retry) };
        let operation = MapOperation::begin(claim, direction, &call.regs, mdl);
        call.pp.operation = Some(operation.ok_or(Failure::Unknown)?);
    }
    match call.pp.operation.as_mut().map(MapOperation::advance) {
        Some(Progress::Again) => Ok(Outcome::Retry),
        Some(Progress::Done) | None => {
            call.pp.operation = None;
            Ok(Outcome::Done)
        }
    }
}

/// Takes back a map or unmap which answered "call again", if this call does not continue it.
pub fn cancel_other_operation(call: &mut Call) {
    call.pp.operation.take_if(|unfinished| !unfinished.is_call(&call.regs));
}

/// R12 nanoseconds that one map or unmap call of the VM may take; 0 is refused.
fn set_time_budget(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    if call.regs.r12 == 0 {
        return Err(Failure::Reg2);
    }
    vm.set_time_budget_ns(call.regs.r12);
    Ok(Outcome::Done)
}

/// Puts mv_clock_t on the page.
fn clock_get(call: &Call) -> OpResult {
    let reading = ids::vm(call)?.clock().read();
    call.pp.page()?.write(0, &reading);
    Ok(Outcome::Done)
}

/// R12 is the clock in ns at the CLOCK_REALTIME in R13, or now where that is 0 or still to come.
fn clock_set(call: &Call) -> OpResult {
    ids::vm(call)?.change_clock(|clock| clock.set_at(call.regs.r12, call.regs.r13));
    Ok(Outcome::Done)
}

/// R12 is MV_HYPERCALL_LEAVE_*.
fn hypercall_leave_set(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    if call.regs.r12 & !MV_HYPERCALL_LEAVE_MAP_GPA_RANGE != 0 {
        return Err(Failure::Reg2);
    }
    vm.hypercalls_that_leave.store(call.regs.r12, Ordering::Relaxed);
    Ok(Outcome::Done)
}

impl From<RetireError> for Failure {
    fn from(error: RetireError) -> Failure {
        match error {
            RetireError::InUse => Failure::Unknown,
            RetireError::AlreadyRetired => Failure::Reg1,
        }
    }
}
