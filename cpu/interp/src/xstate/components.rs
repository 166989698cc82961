//! Registers to component and back.
//!
//! SDM volume 1, "XSAVE-Managed State". Outside 64-bit mode the registers from XMM8 (YMM8, ZMM8)
//! on are neither saved nor changed.

use std::ops::Range;

use cpu_defs::cpuid_bit;
use cpu_host::{MXCSR, MXCSR_INIT, MXCSR_LEGAL, PointerForm, X87_LEN, X87Pointers, XMM0};

use super::area::{Area, Image, MXCSR_RANGE};
use super::bit;
use crate::cpu::Cpu;

const XMM_LEN: usize = 16;
const ZMM_HIGH_LEN: usize = 32;
const ZMM_LEN: usize = 64;

/// What the mode and REX.W change in an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// Form of the last-instruction pointers.
    pub pointers: PointerForm,
    /// XMM0 to XMM15 instead of XMM0 to XMM7.
    pub all_registers: bool,
    /// A saved area has the last-instruction pointers, not zeros.
    pub shows_pointers: bool,
}

impl Form {
    /// All there is: what the host exchanges.
    pub const WHOLE: Self =
        Form { pointers: PointerForm::Wide, all_registers: true, shows_pointers: true };

    /// What an instruction exchanges. AMD's processors show the pointers only while an unmasked
    /// exception waits.
    pub fn of(cpu: &Cpu, pointers: PointerForm) -> Self {
        let shows_pointers = !cpu.features.amd || cpu.fpu.x87_error();
        Form { pointers, all_registers: cpu.mode.code64, shows_pointers }
    }

    fn registers(self) -> usize {
        if self.all_registers { 16 } else { 8 }
    }

    /// The bytes of a component at `at`, in the one or two pieces it has.
    pub fn pieces(self, number: u32, at: usize) -> impl Iterator<Item = Range<usize>> {
        let count = self.registers();
        let (start, len) = match 1 << number {
            bit::X87 => (0, MXCSR_RANGE.start),
            bit::SSE => (XMM0, count * XMM_LEN),
            bit::AVX => (at, count * XMM_LEN),
            bit::OPMASK => (at, 64),
            bit::ZMM_HI256 => (at, count * ZMM_HIGH_LEN),
            bit::HI16_ZMM if self.all_registers => (at, 16 * ZMM_LEN),
            bit::PKRU => (at, 8),
            _ => (at, 0),
        };
        let second = if 1 << number == bit::X87 { MXCSR_RANGE.end..X87_LEN } else { 0..0 };
        [start..start + len, second].into_iter().filter(|piece| !piece.is_empty())
    }
}

/// The canonical address with the same lower bits, which is all that is kept of a last-instruction
/// pointer (SDM volume 1, "x87 State").
fn sign_extended(address: u64, five_levels: bool) -> u64 {
    let unused = if five_levels { 64 - 57 } else { 64 - 48 };
    ((address << unused) as i64 >> unused) as u64
}

/// Bytes of a vector register that a component holds.
fn lanes(component: u64) -> Range<usize> {
    match component {
        bit::SSE => 0..16,
        bit::AVX => 16..32,
        bit::ZMM_HI256 => 32..64,
        _ => 0..64,
    }
}

/// The `LEN` bytes from `AT` on of each register, one register behind the other.
fn gather<const AT: usize, const LEN: usize>(zmms: &[[u8; ZMM_LEN]], bytes: &mut [u8]) {
    for (zmm, bytes) in zmms.iter().zip(bytes.chunks_exact_mut(LEN)) {
        bytes.copy_from_slice(&zmm[AT..AT + LEN]);
    }
}

/// The other way.
fn spread<const AT: usize, const LEN: usize>(zmms: &mut [[u8; ZMM_LEN]], bytes: &[u8]) {
    for (zmm, bytes) in zmms.iter_mut().zip(bytes.chunks_exact(LEN)) {
        zmm[AT..AT + LEN].copy_from_slice(bytes);
    }
}

/// One of these bytes of a register is not zero.
fn is_used<const AT: usize, const LEN: usize>(zmms: &[[u8; ZMM_LEN]]) -> bool {
    zmms.iter().any(|zmm| zmm[AT..AT + LEN] != [0; LEN])
}

impl Cpu {
    /// Components that are not in their initial configuration (XINUSE). MXCSR does not count.
    pub(crate) fn xinuse(&self) -> u64 {
        let (low, high) = self.fpu.zmm.split_at(16);
        let vector = |component: u64, used: bool| if used { component } else { 0 };
        let x87 = if self.fpu.x87_is_clear() { 0 } else { bit::X87 };
        let opmask = if self.fpu.opmask == [0; 8] { 0 } else { bit::OPMASK };
        let pkru = if self.arch.pkru == 0 { 0 } else { bit::PKRU };
        x87 | opmask
            | pkru
            | vector(bit::SSE, is_used::<0, 16>(low))
            | vector(bit::AVX, is_used::<16, 16>(low))
            | vector(bit::ZMM_HI256, is_used::<32, 32>(low))
            | vector(bit::HI16_ZMM, is_used::<0, 64>(high))
    }

    /// XINUSE as XGETBV shows it and the compacted format saves it: MXCSR counts.
    pub(crate) fn xinuse_with_mxcsr(&self) -> u64 {
        let mxcsr = if self.fpu.u32(MXCSR) == MXCSR_INIT { 0 } else { bit::SSE };
        self.xinuse() | mxcsr
    }

    /// Puts a component into an area.
    pub(crate) fn put_component(&self, area: &mut Area, number: u32, at: usize, form: Form) {
        let component = 1 << number;
        match component {
            bit::X87 => {
                let hidden = X87Pointers::default();
                let shown = if form.shows_pointers { &self.fpu.pointers } else { &hidden };
                let image = self.fpu.x87(shown, form.pointers);
                for piece in form.pieces(number, at) {
                    area.put(piece.start, &image[piece]);
                }
            }
            bit::OPMASK => {
                let bytes: Vec<u8> = self.fpu.opmask.iter().flat_map(|k| k.to_le_bytes()).collect();
                area.put(at, &bytes);
            }
            bit::PKRU => area.put(at, &u64::from(self.arch.pkru).to_le_bytes()),
            _ => {
                let zmms = &self.fpu.zmm[self.vector_registers(component, form)];
                for piece in form.pieces(number, at) {
                    let bytes = &mut area.bytes[piece.clone()];
                    match component {
                        bit::SSE => gather::<0, 16>(zmms, bytes),
                        bit::AVX => gather::<16, 16>(zmms, bytes),
                        bit::ZMM_HI256 => gather::<32, 32>(zmms, bytes),
                        _ => gather::<0, 64>(zmms, bytes),
                    }
                    area.touch(piece);
                }
            }
        }
    }

    /// Puts MXCSR and its mask into an area.
    pub(crate) fn put_mxcsr(&self, area: &mut Area) {
        let pair = u64::from(self.fpu.u32(MXCSR)) | u64::from(MXCSR_LEGAL) << 32;
        area.put(MXCSR_RANGE.start, &pair.to_le_bytes());
    }

    /// Loads a component from an area.
    pub(crate) fn take_component(&mut self, area: &Area, number: u32, at: usize, form: Form) {
        let component = 1 << number;
        match component {
            bit::X87 => {
                self.fpu.set_x87(&area.take(0), form.pointers);
                let five_levels = self.features.has(cpuid_bit::LA57);
                let pointers = &mut self.fpu.pointers;
                for address in [&mut pointers.ip, &mut pointers.dp] {
                    *address = sign_extended(*address, five_levels);
                }
            }
            bit::OPMASK => {
                self.fpu.opmask =
                    std::array::from_fn(|k| u64::from_le_bytes(area.take(at + 8 * k)));
            }
            bit::PKRU => self.set_pkru(area.u32(at)),
            _ => {
                let registers = self.vector_registers(component, form);
                let zmms = &mut self.fpu.zmm[registers];
                for piece in form.pieces(number, at) {
                    let bytes = &area.bytes[piece];
                    match component {
                        bit::SSE => spread::<0, 16>(zmms, bytes),
                        bit::AVX => spread::<16, 16>(zmms, bytes),
                        bit::ZMM_HI256 => spread::<32, 32>(zmms, bytes),
                        _ => spread::<0, 64>(zmms, bytes),
                    }
                }
            }
        }
    }

    /// Puts a component into its initial configuration.
    pub(crate) fn init_component(&mut self, number: u32, form: Form) {
        let component = 1 << number;
        match component {
            bit::X87 => self.fpu.clear_x87(),
            bit::OPMASK => self.fpu.opmask = [0; 8],
            bit::PKRU => self.set_pkru(0),
            _ => {
                let registers = self.vector_registers(component, form);
                for zmm in &mut self.fpu.zmm[registers] {
                    zmm[lanes(component)].fill(0);
                }
            }
        }
    }

    fn vector_registers(&self, component: u64, form: Form) -> Range<usize> {
        match component {
            bit::SSE | bit::AVX | bit::ZMM_HI256 => 0..form.registers(),
            bit::HI16_ZMM if form.all_registers => 16..32,
            _ => 0..0,
        }
    }

    /// Loads or initialises each of `requested` as the header says. The bytes are in `area`.
    pub(crate) fn restore_components(
        &mut self,
        area: &Area,
        image: &Image,
        requested: u64,
        form: Form,
    ) {
        for number in numbers(requested) {
            match image.offset(number) {
                Some(at) if image.xstate_bv >> number & 1 != 0 => {
                    self.take_component(area, number, at, form);
                }
                _ => self.init_component(number, form),
            }
        }
    }
}

/// The numbers of the bits that are set.
pub(crate) fn numbers(components: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |number| components >> number & 1 != 0)
}
