//! Instructions that wait for the outside: exits made from requests, and their completion.
//!
//! A port, memory or MSR access runs its instruction again with the answer. A port write that was left
//! with RIP at the instruction is stepped over if RIP is still there.

use cpu_defs::{Gpr, dr6, rflags};
use cpu_interp::mmio::MmioAccess;
use cpu_interp::state::Shadow;
use cpu_interp::{HypercallAnswer, MsrAnswer, Outcome, Request, Stop};

use crate::exit::IO_ELEMENT_LEN;
use crate::{
    DebugExit, Exit, HYPERCALL_ANSWER_LEN, HypercallExit, IoDirection, IoExit, MSR_ANSWER_LEN,
    MmioExit, MsrExit, Pending, Vcpu,
};

/// See [`cpu_interp::Quirks::out_7e_steps`].
const STEPPING_PORT: u16 = 0x7E;

/// An instruction that has exited and is not complete.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unfinished {
    PortIn { bytes: usize, linear_rip: u64 },
    PortOut { port: u16, size: u8, resume_len: u8, linear_rip: u64 },
    MmioRead(MmioAccess),
    MmioWrite,
    Msr { linear_rip: u64 },
    Hypercall { linear_rip: u64 },
}

impl Vcpu {
    /// What [`Self::complete`] wants, if an instruction waits.
    #[must_use]
    pub fn pending(&self) -> Option<Pending> {
        Some(match self.unfinished? {
            Unfinished::PortIn { bytes, .. } => Pending::IoIn { bytes },
            Unfinished::PortOut { .. } => Pending::IoOut,
            Unfinished::MmioRead(access) => Pending::MmioRead { bytes: usize::from(access.len) },
            Unfinished::MmioWrite => Pending::MmioWrite,
            Unfinished::Msr { .. } => Pending::Msr,
            Unfinished::Hypercall { .. } => Pending::Hypercall,
        })
    }

    /// RIP of the instruction that exited for a port, memory or MSR access and is not complete: that
    /// of the processor is behind a write to memory.
    #[must_use]
    pub fn accessing_rip(&self) -> u64 {
        match self.unfinished {
            Some(Unfinished::MmioWrite) => self.cpu().attention_rip,
            _ => self.cpu().arch.rip(),
        }
    }

    /// Finishes the instruction that exited. `data` answers a read (missing bytes are zero, more
    /// are ignored). Some: it needs this exit as well. Nothing else is executed.
    pub fn complete(&mut self, data: &[u8]) -> Option<Exit> {
        self.conclude(|vcpu, unfinished| {
            if !matches!(unfinished, Unfinished::PortOut { .. } | Unfinished::MmioWrite) {
                vcpu.trace_answer(data);
            }
            vcpu.finish(unfinished, data)
        })
    }

    /// Finishes the RDMSR or WRMSR that exited. Some: it needs this exit as well.
    pub fn complete_msr(&mut self, answer: MsrAnswer) -> Option<Exit> {
        let Some(Unfinished::Msr { linear_rip }) = self.unfinished else { return None };
        self.conclude(|vcpu, _| {
            if let MsrAnswer::Value(value) = answer {
                vcpu.trace_answer(&value.to_le_bytes());
            }
            vcpu.answer_msr(answer, linear_rip)
        })
    }

    /// Finishes the hypercall that exited. Some: it needs this exit as well.
    pub fn complete_hypercall(&mut self, answer: HypercallAnswer) -> Option<Exit> {
        let Some(Unfinished::Hypercall { linear_rip }) = self.unfinished else { return None };
        self.conclude(|vcpu, _| {
            if let HypercallAnswer::Value(value) = answer {
                vcpu.trace_answer(&value.to_le_bytes());
            }
            vcpu.answer_hypercall(answer, linear_rip)
        })
    }

    fn conclude(
        &mut self,
        finish: impl FnOnce(&mut Self, Unfinished) -> Option<Exit>,
    ) -> Option<Exit> {
        let unfinished = self.unfinished.take()?;
        let kick = self.kick.clone();
        let _running = kick.enter();
        self.prepare();
        let exit = finish(self, unfinished);
        self.cpu_mut().memory.shared_code.end();
        let exit = exit?;
        self.counters.add_exit(&exit);
        self.trace_exit(&exit);
        Some(exit)
    }

    fn finish(&mut self, unfinished: Unfinished, data: &[u8]) -> Option<Exit> {
        match unfinished {
            Unfinished::PortIn { bytes, linear_rip } => {
                if self.cpu().linear_rip() != linear_rip {
                    return None;
                }
                let mut answer = vec![0; bytes];
                copy_prefix(&mut answer, data);
                self.cpu_mut().ports.answer(&answer);
                let outcome = self.interp.step();
                self.cpu_mut().ports.clear();
                self.exit_unless_done(outcome)
            }
            Unfinished::PortOut { port, size, resume_len, linear_rip } => {
                self.end_port_write(port, size, resume_len, linear_rip);
                None
            }
            Unfinished::MmioRead(mut access) => {
                copy_prefix(&mut access.data[..usize::from(access.len)], data);
                self.cpu_mut().memory.mmio.answer(access);
                let outcome = self.interp.step();
                if !matches!(outcome, Outcome::Request(Request::MmioRead(_))) {
                    self.cpu_mut().memory.mmio.forget_reads();
                }
                self.exit_unless_done(outcome)
            }
            Unfinished::MmioWrite => self.next_write(),
            Unfinished::Msr { linear_rip } => self.answer_msr(host_answer(data), linear_rip),
            Unfinished::Hypercall { linear_rip } => {
                let mut answer = [0; HYPERCALL_ANSWER_LEN];
                copy_prefix(&mut answer, data);
                let answer = HypercallAnswer::Value(u64::from_le_bytes(answer));
                self.answer_hypercall(answer, linear_rip)
            }
        }
    }

    fn answer_msr(&mut self, answer: MsrAnswer, linear_rip: u64) -> Option<Exit> {
        if self.cpu().linear_rip() != linear_rip {
            return None;
        }
        self.cpu_mut().msr_answer = Some(answer);
        let outcome = self.interp.step();
        self.cpu_mut().msr_answer = None;
        self.exit_unless_done(outcome)
    }

    fn answer_hypercall(&mut self, answer: HypercallAnswer, linear_rip: u64) -> Option<Exit> {
        if self.cpu().linear_rip() != linear_rip {
            return None;
        }
        self.cpu_mut().hypercall_answer = Some(answer);
        let outcome = self.interp.step();
        self.cpu_mut().hypercall_answer = None;
        self.exit_unless_done(outcome)
    }

    /// Steps over an OUT, if the guest is still there.
    fn end_port_write(&mut self, port: u16, size: u8, resume_len: u8, linear_rip: u64) {
        if resume_len != 0 && self.cpu().linear_rip() == linear_rip {
            self.interp.count(1);
            let cpu = self.cpu_mut();
            cpu.arch.set_rip(cpu.arch.rip().wrapping_add(u64::from(resume_len)));
            cpu.arch.shadow = Shadow::None;
            cpu.arch.rflags &= !rflags::RF;
            cpu.note_port(port, size);
            if cpu.steps() {
                cpu.raise_debug_trap(dr6::BS);
            }
        }
    }

    /// The guest runs on without completion: queued writes and recorded reads are void.
    pub fn abandon_unfinished(&mut self) {
        if let Some(unfinished) = self.unfinished.take() {
            if let Unfinished::PortOut { .. } = unfinished {
                self.unfinished = Some(unfinished);
                self.complete(&[]);
            }
            let mmio = &mut self.cpu_mut().memory.mmio;
            mmio.forget_reads();
            mmio.forget_writes();
        }
    }

    fn exit_unless_done(&mut self, outcome: Outcome) -> Option<Exit> {
        match outcome {
            Outcome::Boundary => None,
            outcome => Some(self.exit_for(outcome)),
        }
    }

    /// The exit for an outcome that is not a boundary.
    pub(crate) fn exit_for(&mut self, outcome: Outcome) -> Exit {
        match outcome {
            Outcome::Request(request) => self.exit_for_request(request),
            Outcome::Shutdown => Exit::Shutdown,
            Outcome::Boundary | Outcome::Unsupported => self.emulation_failure(),
        }
    }

    /// The exit for an event that could not be delivered.
    pub(crate) fn exit_for_stop(&mut self, stop: Stop) -> Exit {
        match (stop, self.cpu_mut().request.take()) {
            (Stop::Shutdown, _) if self.lost => Exit::Lost,
            (Stop::Shutdown, _) => Exit::Shutdown,
            (Stop::Exit, Some(request)) => self.exit_for_request(request),
            _ => self.emulation_failure(),
        }
    }

    fn emulation_failure(&self) -> Exit {
        let (bytes, len) = self.interp.code_bytes();
        Exit::EmulationFailure { bytes, len: len as u8 }
    }

    fn exit_for_request(&mut self, request: Request) -> Exit {
        let linear_rip = self.cpu().linear_rip();
        match request {
            Request::Hlt => Exit::Hlt,
            Request::PortIn { port, size, count } => {
                let bytes = usize::from(size) * count as usize;
                self.unfinished = Some(Unfinished::PortIn { bytes, linear_rip });
                let (dir, data) = (IoDirection::In, [0; IO_ELEMENT_LEN]);
                Exit::Io(IoExit { port, size, count, dir, data })
            }
            Request::PortOut { port, size, value, resume_len } => {
                let steps = port == STEPPING_PORT && self.cpu().quirks.out_7e_steps;
                if steps {
                    self.end_port_write(port, size, resume_len, linear_rip);
                }
                let resume_len = if steps { 0 } else { resume_len };
                self.unfinished = Some(Unfinished::PortOut { port, size, resume_len, linear_rip });
                let (dir, data) = (IoDirection::Out, value.to_le_bytes());
                Exit::Io(IoExit { port, size, count: 1, dir, data })
            }
            Request::MmioRead(access) => {
                self.unfinished = Some(Unfinished::MmioRead(access));
                mmio_exit(access, false)
            }
            Request::Msr { index, value, reason } => {
                self.unfinished = Some(Unfinished::Msr { linear_rip });
                Exit::Msr(MsrExit { index, value, reason })
            }
            Request::Refused { gpa } => Exit::Refused { gpa },
            Request::Hypercall => {
                self.unfinished = Some(Unfinished::Hypercall { linear_rip });
                Exit::Hypercall(self.hypercall_exit())
            }
            Request::Debug { vector, causes } => Exit::Debug(DebugExit {
                vector,
                linear_rip,
                dr6: causes | dr6::FIXED_ONE,
                dr7: self.cpu().effective_dr7(),
            }),
            Request::MmioWrite => self.next_write().unwrap_or(Exit::Interrupted),
        }
    }

    fn hypercall_exit(&self) -> HypercallExit {
        let cpu = self.cpu();
        let long = cpu.mode.code64;
        let mask = if long { u64::MAX } else { u32::MAX.into() };
        let registers = [Gpr::Rax, Gpr::Rbx, Gpr::Rcx, Gpr::Rdx, Gpr::Rsi];
        let args = registers.map(|register| cpu.arch.gpr(register) & mask);
        HypercallExit { args, long, cpl: cpu.arch.cpl }
    }

    fn next_write(&mut self) -> Option<Exit> {
        let access = self.cpu_mut().memory.mmio.next_write()?;
        self.unfinished = Some(Unfinished::MmioWrite);
        Some(mmio_exit(access, true))
    }
}

fn mmio_exit(access: MmioAccess, write: bool) -> Exit {
    let MmioAccess { gpa, len, data } = access;
    Exit::Mmio(MmioExit { gpa, len, write, data })
}

/// What [`MSR_ANSWER_LEN`] bytes say; missing ones are 0.
fn host_answer(data: &[u8]) -> MsrAnswer {
    let mut answer = [0; MSR_ANSWER_LEN];
    copy_prefix(&mut answer, data);
    let answer = u128::from_le_bytes(answer);
    if answer >> u64::BITS != 0 {
        return MsrAnswer::Fault;
    }
    MsrAnswer::Value(answer as u64)
}

fn copy_prefix(to: &mut [u8], from: &[u8]) {
    let len = to.len().min(from.len());
    to[..len].copy_from_slice(&from[..len]);
}
