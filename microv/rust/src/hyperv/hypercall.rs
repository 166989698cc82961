//! Hypercalls: who may make them, which there are, and the order in which they are refused.
//!
//! TLFS, "Hypercall Interface". In 64-bit mode the words are RCX, RDX and R8, and the result is RAX; else
//! they are EDX:EAX, EBX:ECX and EDI:ESI, and the result is EDX:EAX.

use cpu_defs::{Gpr, Reg, cr0};
use cpu_engine::{HypercallExit, Vcpu};
use cpu_paravirt::hyperv::cpuid::feature;
use cpu_paravirt::hyperv::hypercall::{self as hc, Input, Status};

use super::Hyperv;
use crate::paravirt::memory;

/// XMM0 to XMM5 carry input, as halves.
const XMM_HALVES: usize = 12;
/// In HV_X64_MSR_SYNDBG_OPTIONS: the debugger's interface is used by hypercalls.
const DEBUG_BY_HYPERCALLS: u64 = 1 << 2;

/// In the input of HvCallSignalEvent.
const CONNECTION: u64 = 0xFF_FFFF;
const EVENT_FLAG: u64 = 0xFFFF << 32;

/// What becomes of a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The result.
    Result(u64),
    /// #UD.
    Undefined,
    /// The root answers.
    Root,
    /// None yet: the processor is suspended, and makes the hypercall again.
    Suspended,
}

/// How far a hypercall has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It has ended.
    With(Status),
    /// The list has ended when so many elements were done, those before the first included.
    After(Status, u16),
    /// The root is to go on.
    ByRoot,
    /// The root is to signal a connection that it knows.
    Signals(u32),
    /// Nothing is done, and the processor is suspended.
    Suspended,
}

impl From<Status> for Done {
    fn from(status: Status) -> Done {
        Done::With(status)
    }
}

/// A hypercall that the root answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallToRoot {
    /// The input word.
    pub input: u64,
    /// Addresses of input and output, or, where it is fast, what is there.
    pub params: [u64; 2],
    /// The connection that is signalled, if it is one that the root has made known.
    pub connection: Option<u32>,
    /// The result is RAX; without, EDX:EAX.
    pub long: bool,
}

/// A hypercall as its caller made it.
#[derive(Debug)]
pub struct Caller {
    /// The input word.
    pub input: Input,
    /// Guest-physical addresses of input and output, or the input itself where it is fast.
    pub in_words: [u64; 2],
    /// The rest of it.
    pub xmm: Vec<u64>,
}

impl Caller {
    fn new(vcpu: &Vcpu, long: bool) -> Caller {
        let register = |register| vcpu.reg(Reg::Gpr(register));
        let pair = |high, low| register(high) << 32 | u64::from(register(low) as u32);
        let (input, in_words) = match long {
            true => (register(Gpr::Rcx), [register(Gpr::Rdx), register(Gpr::R8)]),
            false => {
                (pair(Gpr::Rdx, Gpr::Rax), [pair(Gpr::Rbx, Gpr::Rcx), pair(Gpr::Rdi, Gpr::Rsi)])
            }
        };
        Caller { input: Input(input), in_words, xmm: Vec::new() }
    }

    fn read_xmm(&mut self, vcpu: &Vcpu) {
        let halves = vcpu.fpu().zmm.iter().flat_map(|register| {
            let (words, _) = register[..16].as_chunks::<8>();
            [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])]
        });
        self.xmm = halves.take(XMM_HALVES).collect();
    }
}

impl Hyperv {
    /// Whether calls of the host are hypercalls of this interface.
    pub fn takes_calls(&self) -> bool {
        self.announced.enabled && self.vm.hyperv.shared().guest_os_id != 0
    }

    /// Carries out a hypercall.
    pub fn call(&mut self, vcpu: &mut Vcpu, exit: &HypercallExit) -> Answer {
        if exit.cpl != 0 || vcpu.reg(Reg::Cr0) & cr0::PE == 0 {
            return Answer::Undefined;
        }
        let mut caller = Caller::new(vcpu, exit.long);
        let input = caller.input;
        if self.enforce_cpuid && !hc::is_announced(&self.announced, input.code()) {
            return Answer::Result(input.result(Status::AccessDenied));
        }
        if input.has_reserved() {
            return Answer::Result(input.result(Status::InvalidHypercallInput));
        }
        if input.is_fast() && input.may_use_xmm() {
            if self.enforce_cpuid && self.announced.features & feature::XMM_INPUT == 0 {
                return Answer::Undefined;
            }
            caller.read_xmm(vcpu);
        }
        if input.is_fast() && input.has_output() {
            let announced = self.announced.features & feature::XMM_OUTPUT != 0;
            if !exit.long || (self.enforce_cpuid && !announced) {
                return Answer::Undefined;
            }
        }
        match self.carry_out(vcpu, &caller) {
            Done::After(status, done) => Answer::Result(Input::result_after(status, done)),
            Done::With(status) => Answer::Result(input.result(status)),
            Done::Suspended => Answer::Suspended,
            Done::ByRoot => self.leave(&caller, None, exit.long),
            Done::Signals(connection) => self.leave(&caller, Some(connection), exit.long),
        }
    }

    fn leave(&mut self, caller: &Caller, connection: Option<u32>, long: bool) -> Answer {
        let (input, params) = (caller.input.0, caller.in_words);
        self.call = Some(CallToRoot { input, params, connection, long });
        Answer::Root
    }

    fn carry_out(&mut self, vcpu: &mut Vcpu, caller: &Caller) -> Done {
        let input = caller.input;
        let plain = !input.has_reps() && input.header_words() == 0;
        match input.code() {
            hc::NOTIFY_LONG_SPIN_WAIT if plain => {
                std::thread::yield_now();
                Status::Success.into()
            }
            hc::FLUSH_VIRTUAL_ADDRESS_SPACE if plain => self.flush(vcpu, caller),
            hc::FLUSH_VIRTUAL_ADDRESS_SPACE_EX if !input.has_reps() => self.flush_set(vcpu, caller),
            hc::FLUSH_VIRTUAL_ADDRESS_LIST if is_list(input) && input.header_words() == 0 => {
                self.flush(vcpu, caller)
            }
            hc::FLUSH_VIRTUAL_ADDRESS_LIST_EX if is_list(input) => self.flush_set(vcpu, caller),
            hc::SEND_IPI if plain => self.send_ipi(caller).into(),
            hc::SEND_IPI_EX if !input.has_reps() => self.send_ipi_to_set(caller).into(),
            hc::GET_PARTITION_ID if plain => self.tell_partition_id(vcpu, caller).into(),
            hc::SIGNAL_EVENT if plain => self.signal_event(caller),
            hc::POST_MESSAGE if plain => self.leave_to_root(),
            hc::POST_DEBUG_DATA | hc::RETRIEVE_DEBUG_DATA if input.is_fast() => {
                Status::InvalidParameter.into()
            }
            hc::POST_DEBUG_DATA | hc::RETRIEVE_DEBUG_DATA | hc::RESET_DEBUG_SESSION => {
                self.check_debugging()
            }
            hc::EXTENDED_FIRST..=hc::EXTENDED_LAST if input.is_fast() => {
                Status::InvalidParameter.into()
            }
            hc::EXTENDED_FIRST..=hc::EXTENDED_LAST => Done::ByRoot,
            _ => self.carry_out_more(vcpu, caller),
        }
    }

    /// Those that KVM has not, and what is wrong with the others.
    fn carry_out_more(&mut self, vcpu: &mut Vcpu, caller: &Caller) -> Done {
        let input = caller.input;
        let plain = !input.has_reps() && input.header_words() == 0;
        let list = input.first_rep() < input.reps() && input.header_words() == 0;
        let refused = Done::With(Status::InvalidHypercallInput);
        match input.code() {
            hc::GET_VP_REGISTERS if list => self.get_registers(vcpu, caller),
            hc::SET_VP_REGISTERS if list => self.set_registers(vcpu, caller),
            hc::GET_VP_INDEX_FROM_APIC_ID if list => self.tell_vp_indexes(vcpu, caller),
            hc::START_VIRTUAL_PROCESSOR if plain => self.start(vcpu, caller).into(),
            hc::NOTIFY_LONG_SPIN_WAIT
            | hc::FLUSH_VIRTUAL_ADDRESS_SPACE..=hc::FLUSH_VIRTUAL_ADDRESS_LIST
            | hc::FLUSH_VIRTUAL_ADDRESS_SPACE_EX..=hc::SEND_IPI_EX
            | hc::SEND_IPI
            | hc::GET_PARTITION_ID
            | hc::GET_VP_REGISTERS..=hc::SET_VP_REGISTERS
            | hc::START_VIRTUAL_PROCESSOR..=hc::GET_VP_INDEX_FROM_APIC_ID
            | hc::POST_MESSAGE..=hc::SIGNAL_EVENT => refused,
            _ => Status::InvalidHypercallCode.into(),
        }
    }

    /// The root has messages and events for guests that have a synthetic interrupt controller.
    fn leave_to_root(&self) -> Done {
        match self.presence.synic.is_active() {
            true => Done::ByRoot,
            false => Status::InvalidHypercallInput.into(),
        }
    }

    /// HvCallSignalEvent: a connection, 24 bits, and in bits 47:32 the number of a flag.
    fn signal_event(&self, caller: &Caller) -> Done {
        let address = caller.in_words[0];
        let connection = match caller.input.is_fast() {
            true => address,
            false if !address.is_multiple_of(8) => return Status::InvalidAlignment.into(),
            false => match self.input_words(caller) {
                Some([connection]) => connection,
                None => return Status::InvalidAlignment.into(),
            },
        };
        let has_flag = connection & EVENT_FLAG != 0;
        if !has_flag && connection & !CONNECTION != 0 {
            return Status::InvalidHypercallInput.into();
        }
        let known = u32::try_from(connection)
            .ok()
            .filter(|number| self.vm.hyperv.shared().connections.contains(number));
        known.map_or_else(|| self.leave_to_root(), Done::Signals)
    }

    /// The root talks to the debugger.
    fn check_debugging(&self) -> Done {
        if !self.announced.has_debugging() {
            return Status::InvalidHypercallCode.into();
        }
        match self.vm.hyperv.shared().debug.options & DEBUG_BY_HYPERCALLS {
            0 => Status::OperationDenied.into(),
            _ => Done::ByRoot,
        }
    }

    /// Words of the input in memory; None where they are not there.
    pub(super) fn input_words<const N: usize>(&self, caller: &Caller) -> Option<[u64; N]> {
        let mut bytes = vec![0; N * size_of::<u64>()];
        let mem = &self.vm.memory.normal;
        let read = memory::copy_out(mem, caller.in_words[0], &mut bytes);
        read.then(|| super::vp_set::words(&bytes).try_into().ok()).flatten()
    }

    /// The root has answered the hypercall that has left, if one has, with `result`: what RAX cannot
    /// hold goes to EDX. None: the hypercall is gone, as after INIT.
    pub fn end_call(&mut self, vcpu: &mut Vcpu, result: Option<u64>) {
        if let (Some(call), Some(result)) = (self.call.take(), result)
            && !call.long
        {
            set_edx(vcpu, result);
        }
    }
}

/// Puts the upper half of a result into EDX.
pub fn set_edx(vcpu: &mut Vcpu, result: u64) {
    // A general register takes any value.
    let taken = vcpu.set_reg(Reg::Gpr(Gpr::Rdx), result >> 32);
    debug_assert!(taken.is_ok());
}

/// A list that begins with its first element.
fn is_list(input: Input) -> bool {
    input.reps() != 0 && input.first_rep() == 0
}
