//! From RAX to an operation.
//!
//! The contract is wide: every register value and every page content gets a status. The order of
//! checks is signature, flags, group, then the gate of the group (the handle; the caller is always
//! root), then the index. Groups, indexes and flags that do not exist are unsupported.

use crate::abi::hypercall as abi;
use crate::call::{Call, Regs};
use crate::object::Pp;
use crate::op;
use crate::outcome::{Failure, OpResult};

/// Carries out the hypercall in `regs` for `pp` and puts the answer there.
pub fn dispatch(pp: &mut Pp, regs: &mut Regs) {
    let machine = std::sync::Arc::clone(pp.machine());
    let result = decode(&mut Call { machine: &machine, pp, regs: *regs });
    match result {
        Ok(outcome) => {
            regs.rax = outcome.status();
            regs.r10 = outcome.r10().unwrap_or(regs.r10);
        }
        Err(failure) => regs.rax = failure.status(),
    }
}

fn decode(call: &mut Call) -> OpResult {
    let rax = call.regs.rax;
    if rax & abi::MV_HYPERCALL_SIG_MASK != abi::MV_HYPERCALL_SIG_VAL
        || rax & abi::MV_HYPERCALL_FLAGS_MASK != 0
    {
        return Err(Failure::Unsupported);
    }
    op::vm::cancel_other_operation(call);
    let index = rax & abi::MV_HYPERCALL_INDEX_MASK;
    match rax & abi::MV_HYPERCALL_OPCODE_NOSIG_MASK {
        abi::MV_ID_OP_NOSIG_VAL => op::id::call(call, index),
        abi::MV_HANDLE_OP_NOSIG_VAL => op::handle::call(call, index),
        abi::MV_DEBUG_OP_NOSIG_VAL => op::debug::call(call, index),
        abi::MV_PP_OP_NOSIG_VAL => gate(call).and_then(|()| op::pp::call(call, index)),
        abi::MV_VM_OP_NOSIG_VAL => gate(call).and_then(|()| op::vm::call(call, index)),
        abi::MV_VP_OP_NOSIG_VAL => gate(call).and_then(|()| op::vp::call(call, index)),
        abi::MV_VS_OP_NOSIG_VAL => gate(call).and_then(|()| op::vs::call(call, index)),
        _ => Err(Failure::Unsupported),
    }
}

fn gate(call: &Call) -> Result<(), Failure> {
    if call.machine.handles.is_open(call.regs.r10) { Ok(()) } else { Err(Failure::InvalidHandle) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::abi::status;
    use crate::root::Root;

    fn is_status(rax: u64) -> bool {
        status::TABLE.iter().any(|(_, value)| *value == rax)
    }

    fn words() -> impl Strategy<Value = u64> {
        prop_oneof![any::<u64>(), 0_u64..0x41, 0x400_u64..0x408, Just(0xFFFE), Just(0xFFFF)]
    }

    fn calls() -> impl Strategy<Value = u64> {
        let named = (0_u64..8, 0_u64..0x70)
            .prop_map(|(group, index)| abi::MV_HYPERCALL_SIG_VAL | group << 16 | index);
        prop_oneof![1 => any::<u64>(), 9 => named]
    }

    proptest! {
        #[test]
        fn any_registers_and_any_page_get_a_status(
            calls in prop::collection::vec((calls(), [words(), words(), words()]), 1..40),
            page in prop::collection::vec(words(), 64),
        ) {
            let mut root = Root::new();
            root.create_vs();
            let page: [u64; 64] = page.try_into().unwrap();
            for (call, registers) in calls {
                if root.pp.page().is_ok() {
                    root.write(&page);
                }
                let (rax, _) = root.call(call, registers);
                prop_assert!(is_status(rax), "{call:#x} {registers:x?} -> {rax:#x}");
            }
        }
    }

    #[test]
    fn r10_is_kept_where_there_is_no_answer() {
        let mut root = Root::new();
        let (rax, r10) = root.call(0x1234, [0; 3]);
        assert_eq!((rax, r10), (status::MV_STATUS_FAILURE_UNSUPPORTED, root.handle));
    }
}
