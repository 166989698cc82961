//! Which forms of which instructions are tried, and which are not and why.

use cpu_defs::{CpuidEntry, CpuidWord};
use cpu_engine::{Features, supported_cpuid};
use iced_x86::{Code, Mnemonic};
use std::arch::x86_64::__cpuid_count;

/// An instruction form in code of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The form.
    pub code: Code,
    /// 16, 32 or 64.
    pub bits: u32,
}

/// Instructions whose results no two runs, or no two processors, have in common.
pub const EXCLUDED: &[(&[Mnemonic], &str)] = &[
    (
        &[Mnemonic::Syscall, Mnemonic::Sysenter],
        "enters the kernel of the host; tests of the engine have them",
    ),
    (&[Mnemonic::Cpuid], "answers of the emulated processor"),
    (&[Mnemonic::Rdtsc, Mnemonic::Rdtscp, Mnemonic::Rdpmc, Mnemonic::Rdpru], "reads a counter"),
    (&[Mnemonic::Rdrand, Mnemonic::Rdseed], "random by definition"),
    (&[Mnemonic::Rdpid], "Linux keeps the processor's number there"),
    (
        &[Mnemonic::Sgdt, Mnemonic::Sidt, Mnemonic::Sldt, Mnemonic::Str, Mnemonic::Smsw],
        "Linux emulates them for programs where UMIP forbids them",
    ),
    (&[Mnemonic::Vmcall, Mnemonic::Vmmcall, Mnemonic::Vmgexit], "calls the host's hypervisor"),
    (
        &[Mnemonic::Monitor, Mnemonic::Mwait, Mnemonic::Monitorx, Mnemonic::Mwaitx],
        "treated as KVM does, not as the processor",
    ),
    (&[Mnemonic::Int1], "hypervisors that see #DB change where it is reported"),
    (&[Mnemonic::Rdpkru, Mnemonic::Wrpkru], "there if the operating system wants them, CR4.PKE"),
    (&[Mnemonic::Xgetbv], "XINUSE depends on the history of the host"),
    (
        &[Mnemonic::Xbegin, Mnemonic::Xend, Mnemonic::Xabort, Mnemonic::Xtest],
        "transactions may abort at any time",
    ),
];

/// The features that decide what is tried.
pub struct Processors {
    host: Features,
    engine: Features,
    amd: bool,
}

impl Processors {
    /// Of this host and of the engine on it.
    #[must_use]
    pub fn here() -> Self {
        let mut table: Vec<CpuidEntry> = Vec::new();
        let words = CpuidWord::ALL.iter().map(|word| word.position());
        for (function, index, _) in words.chain([(0, 0, cpu_defs::CpuidReg::Eax)]) {
            let answer = __cpuid_count(function, index);
            let significant_index = function == 7 || function == 0xD;
            let (eax, ebx, ecx, edx) = (answer.eax, answer.ebx, answer.ecx, answer.edx);
            table.push(CpuidEntry { function, index, significant_index, eax, ebx, ecx, edx });
        }
        let host = Features::of(&table);
        let engine = Features::of(&supported_cpuid());
        Processors { amd: host.amd, host, engine }
    }

    /// The host decodes as AMD's processors do.
    #[must_use]
    pub fn amd(&self) -> bool {
        self.amd
    }

    /// Both have what a form needs.
    #[must_use]
    pub fn have(&self, code: Code) -> bool {
        let needs = code.cpuid_features();
        self.host.announces(needs) && self.engine.announces(needs)
    }

    /// The host has what a form needs, and the engine does not.
    #[must_use]
    pub fn only_host_has(&self, code: Code) -> bool {
        let needs = code.cpuid_features();
        self.host.announces(needs) && !self.engine.announces(needs)
    }

    /// Why a form is not tried although it could be.
    #[must_use]
    pub fn excluded(&self, code: Code) -> Option<&'static str> {
        let mnemonic = code.mnemonic();
        let listed = EXCLUDED.iter().find(|(names, _)| names.contains(&mnemonic));
        listed.map(|&(_, reason)| reason)
    }

    /// The form exists in code of this size here.
    fn decodes(&self, code: Code, bits: u32) -> bool {
        let info = code.op_code();
        let by_vendor = match (self.amd, bits) {
            (true, 16) => info.amd_decoder16(),
            (true, 32) => info.amd_decoder32(),
            (true, _) => info.amd_decoder64(),
            (_, 16) => info.intel_decoder16(),
            (_, 32) => info.intel_decoder32(),
            _ => info.intel_decoder64(),
        };
        // The forms with a WAIT in front are two instructions.
        by_vendor && info.is_instruction() && info.decoder_option() == 0 && !info.fwait()
    }

    /// Every form to be tried in code of this size.
    #[must_use]
    pub fn forms(&self, bits: u32) -> Vec<Form> {
        Code::values()
            .filter(|&code| self.decodes(code, bits) && self.have(code))
            .filter(|&code| self.excluded(code).is_none())
            .map(|code| Form { code, bits })
            .collect()
    }
}
