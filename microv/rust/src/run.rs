//! run: into the engine with what mv_run_t says, out with an exit.
//!
//! In order: registers and MSRs of mv_run_t are written, the instruction that left last time is
//! finished with the data of `iomem`, the state is checked, the guest executes. No lock but that of the
//! VS is held meanwhile.

use std::mem::offset_of;

use cpu_defs::Reg;
use cpu_defs::msr::IA32_APIC_BASE;
use cpu_engine::{Exit, HYPERCALL_ANSWER_LEN, MSR_ANSWER_LEN, Pending, Quirks};

use crate::abi::list::mv_rdl_entry_t;
use crate::abi::quirk::{
    MV_QUIRK_HYPERCALL_REPAIR, MV_QUIRK_MWAIT_BY_TABLE, MV_QUIRK_MWAIT_NEVER_UNDEFINED,
    MV_QUIRK_OUT_7E_STEPS,
};
use crate::abi::run as abi;
use crate::abi::run::mv_run_t;
use crate::call::Call;
use crate::exit;
use crate::irqchip::Irqchip;
use crate::mp_state::MpState;
use crate::object::state::State;
use crate::object::vs::Refusal;
use crate::object::{Vm, Vs};
use crate::op::{ids, vs};
use crate::outcome::{Failure, OpResult, Outcome};
use crate::page::SharedPage;
use crate::processor::Stopped;

/// R11 is the VS; mv_run_t is on the page and is replaced by mv_run_return_t and the exit.
///
/// Status and R10: SUCCESS with an exit reason; EXIT_FAILURE with reason failure where the state cannot
/// be entered or the VM is lost; EXIT_UNKNOWN with reason unknown at an instruction that is not emulated.
///
/// # Errors
/// [`Failure::Reg1`] where R11 names no guest VS or one that runs. [`Failure::Unknown`] without a
/// shared page, where mv_run_t is over its limits or an entry of it is refused, `iomem` is not as long
/// as the unfinished instruction wants, another VS of the VP runs, or the VS waits for SIPI; then
/// nothing but the entries before a refused MSR has changed.
pub fn run(call: &Call) -> OpResult {
    let vs = ids::vs(call)?;
    let page = call.pp.page()?;
    let mut state = match vs.lock() {
        Ok(state) => state,
        Err(Refusal::Poisoned) => return Ok(exit::poisoned(page)),
        Err(refusal) => return Err(refusal.into()),
    };
    if vs.vp.vm.is_lost() {
        return Ok(exit::lost(page));
    }
    let input = Input::read(page)?;
    let _active = vs.vp.activate().ok_or(Failure::Unknown)?;
    let _running = vs.mark_running();
    input.check(&state)?;
    input.write_state(&mut state)?;
    let State { vcpu, msr_changes, .. } = &mut *state;
    if let Some(rules) = vs.vp.vm.new_msr_rules(msr_changes) {
        vcpu.set_msr_rules(rules);
    }
    // What the thread has noted for another VS was for nobody.
    drop(cpu_mem::take_noted());
    vcpu.set_quirks(quirks(&vs.vp.vm));
    state.paravirt.hyperv.begin_run();
    state.vcpu.begin_turn();
    let stopped = execute(&vs, &mut state, &input);
    state.vcpu.end_turn();
    state.paravirt.hyperv.end_run();
    if let Some(Stopped::Exit(Exit::Interrupted)) = stopped
        && state.vcpu.pending().is_none()
        && !input.has(abi::MV_RUN_FLAG_COMPLETE_ONLY)
        && state.paravirt.begin_preemption()
    {
        vs.presence.sleep_counts.add_preemption();
    }
    state.written.append(&mut cpu_mem::take_noted());
    page.write(0, &summary(&vs, &state));
    if matches!(stopped, Some(Stopped::Exit(Exit::Lost))) {
        vs.vp.vm.lose();
    }
    let outcome = match stopped {
        Some(Stopped::Exit(exit)) => match state.paravirt.hyperv.call_to_root() {
            Some(call) if matches!(exit, Exit::Hypercall(_)) => exit::hyperv::call(page, call),
            _ => exit::report(page, &exit),
        },
        Some(Stopped::Hyperv(wish)) => exit::hyperv::wish(page, wish),
        Some(Stopped::Ended(vector)) => exit::interrupt_end(page, vector),
        Some(Stopped::TaskPriority(access)) => exit::tpr_access(page, access),
        None => exit::invalid_state(page),
    };
    if let Outcome::Exit { reason, .. } = outcome {
        vs.last_exit.set(reason);
    }
    Ok(outcome)
}

/// `None` where the state cannot be entered.
fn execute(vs: &Vs, state: &mut State, input: &Input) -> Option<Stopped> {
    let is_called = state.vcpu.pending() == Some(Pending::Hypercall);
    let result = input.iomem[..].try_into().ok().filter(|_| is_called).map(u64::from_le_bytes);
    state.paravirt.hyperv.end_call(&mut state.vcpu, result);
    // A VS that was preempted has no instruction to finish, so nothing is asked of it yet.
    if let Some(exit) = state.vcpu.complete(&input.iomem) {
        return Some(Stopped::Exit(exit));
    }
    if input.has(abi::MV_RUN_FLAG_COMPLETE_ONLY) {
        return Some(Stopped::Exit(Exit::Interrupted));
    }
    state.vcpu.check_entry().ok()?;
    let window = input.has(abi::MV_RUN_FLAG_INTERRUPT_WINDOW);
    loop {
        state.paravirt.end_preemption(&mut state.vcpu);
        state.paravirt.publish_clock(&state.vcpu);
        let stopped = enter(vs, state, window);
        if !matches!(stopped, Stopped::Exit(Exit::Paused)) {
            return Some(stopped);
        }
        vs.questions.answer(state);
        state.vcpu.begin_turn();
    }
}

fn enter(vs: &Vs, state: &mut State, window: bool) -> Stopped {
    let vcpus = vs.vp.vm.vcpus();
    if let Some(mut processor) = vs.processor(state, &vcpus) {
        return processor.run(window && !vs.vp.vm.has_pic());
    }
    state.mp_state = MpState::Running;
    state.paravirt.run(&mut state.vcpu, window)
}

fn quirks(vm: &Vm) -> Quirks {
    let quirks = vm.quirks();
    let has = |quirk: u64| quirks & quirk != 0;
    Quirks {
        repair_hypercall: has(MV_QUIRK_HYPERCALL_REPAIR),
        mwait_never_undefined: has(MV_QUIRK_MWAIT_NEVER_UNDEFINED),
        mwait_by_table: has(MV_QUIRK_MWAIT_BY_TABLE),
        out_7e_steps: has(MV_QUIRK_OUT_7E_STEPS),
    }
}

fn summary(vs: &Vs, state: &State) -> abi::mv_run_return_t {
    let vcpu = &state.vcpu;
    let ended = vs.vp.vm.irqchip.get().is_some_and(Irqchip::has_ended);
    let flags = [
        (!state.written.is_empty(), abi::MV_RUN_RETURN_STATE_NOTED),
        (vs.vp.vm.has_pic() || state.interruptible(), abi::MV_RUN_RETURN_STATE_INTERRUPTIBLE),
        (vcpu.in_smm(), abi::MV_RUN_RETURN_STATE_SMM),
        (ended, abi::MV_RUN_RETURN_STATE_LINES_ENDED),
    ];
    abi::mv_run_return_t {
        rflags: vcpu.reg(Reg::Rflags),
        cr8: vcpu.reg(Reg::Cr8),
        apic_base: state.msr(IA32_APIC_BASE).unwrap_or(0),
        state: flags.into_iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum(),
    }
}

/// What mv_run_t says; its counts are within their limits.
struct Input {
    regs: Vec<mv_rdl_entry_t>,
    msrs: Vec<mv_rdl_entry_t>,
    iomem: Vec<u8>,
    flags: u64,
}

impl Input {
    fn read(page: &SharedPage) -> Result<Input, Failure> {
        let count = |offset, most| match page.read_at::<u64>(offset) {
            count if count > most => Err(Failure::Unknown),
            count => Ok(count as usize),
        };
        let regs = count(offset_of!(mv_run_t, num_reg_entries), abi::MV_RUN_MAX_REG_ENTRIES)?;
        let msrs = count(offset_of!(mv_run_t, num_msr_entries), abi::MV_RUN_MAX_MSR_ENTRIES)?;
        let iomem = count(offset_of!(mv_run_t, num_iomem), abi::MV_RUN_MAX_IOMEM_SIZE)?;
        Ok(Input {
            regs: page.read_list(offset_of!(mv_run_t, reg_entries), regs),
            msrs: page.read_list(offset_of!(mv_run_t, msr_entries), msrs),
            iomem: page.read_list(offset_of!(mv_run_t, iomem), iomem),
            flags: page.read_at(offset_of!(mv_run_t, flags)),
        })
    }

    /// Whether the VS may be entered with this.
    fn check(&self, state: &State) -> Result<(), Failure> {
        let wanted = match state.vcpu.pending() {
            Some(Pending::IoIn { bytes } | Pending::MmioRead { bytes }) => bytes,
            Some(Pending::Msr) => MSR_ANSWER_LEN,
            Some(Pending::Hypercall) => HYPERCALL_ANSWER_LEN,
            Some(Pending::IoOut | Pending::MmioWrite) | None => 0,
        };
        // With a local APIC a start-up may come while it waits here.
        let startable = state.lapic.is_some() || state.mp_state != MpState::Init;
        match self.iomem.len() == wanted && startable {
            true => Ok(()),
            false => Err(Failure::Unknown),
        }
    }

    fn write_state(&self, state: &mut State) -> Result<(), Failure> {
        vs::reg::write_all(&mut state.vcpu, &self.regs)?;
        self.msrs.iter().try_for_each(|entry| vs::msr::write(state, entry))
    }

    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::hypercall::MV_VS_OP_VAL;
    use crate::abi::index::{MV_VS_OP_REG_GET_IDX_VAL, MV_VS_OP_RUN_IDX_VAL};
    use crate::abi::status::{MV_STATUS_EXIT_FAILURE, MV_STATUS_FAILURE_UNKNOWN};
    use crate::root::Root;

    #[test]
    fn a_poisoned_vs_is_not_entered() {
        let mut root = Root::new();
        let [_, _, vsid] = root.create_vs();
        let vs = root.machine.vss.get(vsid as u16).unwrap();
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _state = vs.lock().unwrap();
            panic!("a bug");
        }));
        assert!(broken.is_err());

        let answer = root.call(MV_VS_OP_VAL | MV_VS_OP_RUN_IDX_VAL, [vsid, 0, 0]);
        assert_eq!(answer, (MV_STATUS_EXIT_FAILURE, abi::mv_exit_reason_t_failure));
        let details: abi::mv_exit_failure_t = root.read(abi::MV_RUN_RETURN_EXIT_OFFSET as usize);
        assert_eq!(details.reason, abi::MV_EXIT_FAILURE_POISONED);
        let (status, _) = root.call(MV_VS_OP_VAL | MV_VS_OP_REG_GET_IDX_VAL, [vsid, 1, 0]);
        assert_eq!(status, MV_STATUS_FAILURE_UNKNOWN);
    }
}
