//! stats_get: what a VM or VS has done so far. A VS may run meanwhile.

use cpu_engine::Count;

use crate::abi::id::MV_PAGE_SIZE;
use crate::abi::stats::{mv_vm_stats_t, mv_vs_stats_t};
use crate::call::Call;
use crate::op::ids;
use crate::outcome::{OpResult, Outcome};

/// R11 is the VM; puts mv_vm_stats_t on the page.
pub fn of_vm(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let pages = vm.runs().all().map(|run| run.bytes / MV_PAGE_SIZE).sum();
    let (flush_requests, flushes) = vm.flush_counts();
    call.pp.page()?.write(0, &mv_vm_stats_t { flush_requests, flushes, pages });
    Ok(Outcome::Done)
}

/// R11 is the VS; puts mv_vs_stats_t on the page.
pub fn of_vs(call: &Call) -> OpResult {
    let vs = ids::vs(call)?;
    // Those of now are for who asks again: nobody waits here.
    vs.presence.ask_for_count();
    let get = |count| vs.counters.get(count);
    let sleep = &vs.presence.sleep_counts;
    let stats = mv_vs_stats_t {
        exits: get(Count::Exits),
        io_exits: get(Count::Io),
        mmio_exits: get(Count::Mmio),
        hlt_exits: get(Count::Halt),
        interrupt_exits: get(Count::Interrupted),
        interrupt_window_exits: get(Count::Window),
        unknown_exits: get(Count::Failed),
        interrupts: get(Count::Interrupts),
        nmis: get(Count::Nmis),
        flushes: get(Count::Flushes),
        msr_exits: get(Count::Msr),
        hypercall_exits: get(Count::Hypercall),
        debug_exits: get(Count::Debug),
        memory_fault_exits: get(Count::Refused),
        shutdown_exits: get(Count::Shutdown),
        noted_exits: get(Count::Noted),
        left: vs.last_exit.count(),
        instructions: vs.counters.instructions(),
        page_faults: vs.counters.page_faults(),
        wakeups: sleep.wakeups(),
        hlt_wait_ns: sleep.hlt_wait_ns(),
        asleep: sleep.asleep().into(),
        preemptions: sleep.preemptions(),
    };
    call.pp.page()?.write(0, &stats);
    Ok(Outcome::Done)
}
