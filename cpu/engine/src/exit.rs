//! Why `run` came back, and what an unfinished instruction waits for.

use cpu_interp::MsrReason;

/// Most bytes that one port exit asks for.
pub const IO_DATA_LEN: usize = 1024;
/// Most bytes of an element.
pub(crate) const IO_ELEMENT_LEN: usize = 4;

/// Direction of a port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoDirection {
    /// IN, INS.
    In,
    /// OUT, OUTS.
    Out,
}

/// A port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoExit {
    /// Port number.
    pub port: u16,
    /// Bytes per element: 1, 2 or 4.
    pub size: u8,
    /// Elements; more than one only for REP INS.
    pub count: u32,
    /// Direction.
    pub dir: IoDirection,
    /// For `Out` the first `size` bytes are valid.
    pub data: [u8; IO_ELEMENT_LEN],
}

/// An access to guest-physical memory without a (writable) page. Never crosses a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioExit {
    /// First byte.
    pub gpa: u64,
    /// Bytes, 1 to 8.
    pub len: u8,
    /// A write; `data` is valid.
    pub write: bool,
    /// Little-endian data of a write.
    pub data: [u8; 8],
}

/// Bytes of the answer to an [`MsrExit`]: the value of a read, then whether #GP is raised.
pub const MSR_ANSWER_LEN: usize = 16;

/// An MSR access that the rules of the VM give to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsrExit {
    /// The MSR.
    pub index: u32,
    /// What a write wants there; None for a read.
    pub value: Option<u64>,
    /// Why it is refused.
    pub reason: MsrReason,
}

/// A call of the host; the answer goes to RAX, of which 32 bits count outside 64-bit mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HypercallExit {
    /// RAX, RBX, RCX, RDX, RSI; 32 bits of each outside 64-bit mode.
    pub args: [u64; 5],
    /// The caller is in 64-bit mode.
    pub long: bool,
    /// The caller's privilege level.
    pub cpl: u8,
}

/// Bytes of the answer to a [`HypercallExit`].
pub const HYPERCALL_ANSWER_LEN: usize = 8;

/// What a debugger of the host asked for with [`crate::Vcpu::set_host_debug`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugExit {
    /// 1 for a step or breakpoint, 3 for INT3.
    pub vector: u8,
    /// Where the guest is; at the INT3.
    pub linear_rip: u64,
    /// DR6 with the causes; the guest's own is unchanged.
    pub dr6: u64,
    /// DR7 that counted.
    pub dr7: u64,
}

/// Why `run` (or `complete`) returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Port access; see [`Pending`] for what completes it.
    Io(IoExit),
    /// Memory-mapped I/O.
    Mmio(MmioExit),
    /// HLT was executed; RIP is behind it.
    Hlt,
    /// Triple fault; the state is that of the third fault.
    Shutdown,
    /// An SMI came where its state-save area is not in writable memory. The state is lost, and every
    /// run ends so from now on.
    Lost,
    /// RDMSR or WRMSR that somebody outside answers; see [`crate::Vcpu::set_msr_rules`] and
    /// [`crate::Vcpu::set_platform_msrs`].
    Msr(MsrExit),
    /// Many pages were [noted](cpu_mem::noted) that the guest has written.
    Noted,
    /// An access to memory that is [refused](cpu_mem::PhysMap::refuse), at this guest-physical
    /// address. The instruction has changed nothing and runs again.
    Refused {
        /// Offset in the page included.
        gpa: u64,
    },
    /// VMCALL or VMMCALL.
    Hypercall(HypercallExit),
    /// A step or breakpoint of the host.
    Debug(DebugExit),
    /// [`crate::Kick::exit`] was called.
    Interrupted,
    /// The controllers have something that the caller has to act on before the guest goes on.
    Arrived,
    /// [`crate::Kick::pause`] was called. The guest goes on with the next run as if it had not been.
    Paused,
    /// The guest can take an interrupt and the caller had asked to know.
    InterruptWindow,
    /// The instruction at RIP cannot be executed here. Nothing was changed.
    EmulationFailure {
        /// The bytes at RIP, as far as they could be fetched.
        bytes: [u8; 15],
        /// How many of them are valid.
        len: u8,
    },
}

/// What [`crate::Vcpu::complete`] expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// This many bytes read from the port.
    IoIn {
        /// `size * count` of the exit.
        bytes: usize,
    },
    /// Nothing; the port write is done.
    IoOut,
    /// This many bytes read from memory.
    MmioRead {
        /// `len` of the exit.
        bytes: usize,
    },
    /// Nothing; the memory write is done.
    MmioWrite,
    /// [`MSR_ANSWER_LEN`] bytes.
    Msr,
    /// [`HYPERCALL_ANSWER_LEN`] bytes: RAX.
    Hypercall,
}
