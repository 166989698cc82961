//! hyperv_connect: connections of Hyper-V's guests of which the root wants to hear by themselves.

use crate::call::Call;
use crate::op::ids;
use crate::outcome::{Failure, OpResult, Outcome};

/// Numbers of connections are below.
const CONNECTIONS: u64 = 1 << 24;

/// R11 is the VM, R12 the connection, R13 0 or 1.
pub fn connect(call: &Call) -> OpResult {
    let vm = ids::vm(call)?;
    let number = call.regs.r12;
    if number >= CONNECTIONS {
        return Err(Failure::Reg2);
    }
    let mut shared = vm.hyperv.shared();
    match call.regs.r13 {
        0 => shared.connections.remove(&(number as u32)),
        1 => shared.connections.insert(number as u32),
        _ => return Err(Failure::Reg3),
    };
    Ok(Outcome::Done)
}
