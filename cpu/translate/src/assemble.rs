//! The few host instructions that surround copied ones, encoded by hand: this is where the time of
//! a translation would go otherwise.
//!
//! Registers are numbers as in encodings. Distances to places that are not yet known are patched.

/// Conditions of branches: `jb`, which is `jc`,
pub(crate) const BELOW: u8 = 2;
pub(crate) const CARRY: u8 = BELOW;
/// `jae`, which is `jnc`,
pub(crate) const NOT_BELOW: u8 = 3;
pub(crate) const NO_CARRY: u8 = NOT_BELOW;
/// `je`, `jne`, `jbe` and `ja`.
pub(crate) const EQUAL: u8 = 4;
pub(crate) const NOT_EQUAL: u8 = 5;
pub(crate) const NOT_ABOVE: u8 = 6;
pub(crate) const ABOVE: u8 = 7;

/// RAX.
pub(crate) const RAX: u8 = 0;
/// RCX.
pub(crate) const RCX: u8 = 1;
/// RDX.
pub(crate) const RDX: u8 = 2;
/// RSP: the frame.
pub(crate) const RSP: u8 = 4;
/// Scratch.
pub(crate) const R10: u8 = 10;
/// Scratch.
pub(crate) const R11: u8 = 11;
/// How many instructions were executed.
pub(crate) const R14: u8 = 14;
/// The table of translations.
pub(crate) const R15: u8 = 15;

/// Where the distance of a branch is to be patched.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Hole(usize);

/// Code in the making.
#[derive(Default)]
pub(crate) struct Assembler {
    code: Vec<u8>,
    /// Where distances are, and what they lead to.
    branches: Vec<(usize, usize)>,
}

impl Assembler {
    pub(crate) fn position(&self) -> usize {
        self.code.len()
    }

    pub(crate) fn code(&self) -> &[u8] {
        &self.code
    }

    pub(crate) fn clear(&mut self) {
        self.code.clear();
        self.branches.clear();
    }

    pub(crate) fn truncate(&mut self, position: usize) {
        self.code.truncate(position);
        self.branches.retain(|&(at, _)| at < position);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    fn imm32(&mut self, value: i32) {
        self.bytes(&value.to_le_bytes());
    }

    /// REX.W, opcode and register operands.
    fn wide(&mut self, opcode: u8, reg: u8, rm: u8) {
        self.bytes(&[0x48 | (reg >> 3) << 2 | rm >> 3, opcode, 0xC0 | (reg & 7) << 3 | (rm & 7)]);
    }

    /// ModRM, SIB and displacement of `[base + index << scale + disp]`. No index: RSP.
    fn memory(&mut self, reg: u8, base: u8, index: u8, scale: u8, disp: i32) {
        // The encoding without displacement means something else with RBP or R13 as base.
        let none = disp == 0 && base & 7 != 5;
        let small = i8::try_from(disp).is_ok();
        let mode = if none { 0 } else { 0x40 << u8::from(!small) };
        let plain = index == RSP && base & 7 != 4;
        self.bytes(&[mode | (reg & 7) << 3 | if plain { base & 7 } else { 4 }]);
        if !plain {
            self.bytes(&[scale << 6 | (index & 7) << 3 | (base & 7)]);
        }
        if none {
        } else if small {
            self.bytes(&[disp as u8]);
        } else {
            self.imm32(disp);
        }
    }

    /// `opcode reg, [base + index << scale + disp]` of 64 bits.
    fn wide_memory(&mut self, opcode: u8, reg: u8, base: u8, index: u8, scale: u8, disp: i32) {
        self.bytes(&[0x48 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3, opcode]);
        self.memory(reg, base, index, scale, disp);
    }

    /// `mov to, from`
    pub(crate) fn mov(&mut self, to: u8, from: u8) {
        if to != from {
            self.wide(0x89, from, to);
        }
    }

    /// `add to, from`
    pub(crate) fn add(&mut self, to: u8, from: u8) {
        self.wide(0x01, from, to);
    }

    /// `mov to, value`, in the shortest form. Flags stay.
    pub(crate) fn mov_value(&mut self, to: u8, value: u64) {
        let rex = 0x48 | to >> 3;
        if let Ok(low) = u32::try_from(value) {
            if to >= 8 {
                self.bytes(&[0x41]);
            }
            self.bytes(&[0xB8 | (to & 7)]);
            self.bytes(&low.to_le_bytes());
        } else if let Ok(low) = i32::try_from(value as i64) {
            self.bytes(&[rex, 0xC7, 0xC0 | (to & 7)]);
            self.imm32(low);
        } else {
            self.bytes(&[rex, 0xB8 | (to & 7)]);
            self.bytes(&value.to_le_bytes());
        }
    }

    /// `lea to, [base + index << scale + disp]`
    pub(crate) fn lea(&mut self, to: u8, base: u8, index: Option<(u8, u8)>, disp: i32) {
        let (index, scale) = index.unwrap_or((RSP, 0));
        self.wide_memory(0x8D, to, base, index, scale, disp);
    }

    /// `lea to, [index << scale + disp]`
    pub(crate) fn lea_index(&mut self, to: u8, index: u8, scale: u8, disp: i32) {
        self.bytes(&[0x48 | (to >> 3) << 2 | (index >> 3) << 1, 0x8D]);
        self.bytes(&[(to & 7) << 3 | 4, scale << 6 | (index & 7) << 3 | 5]);
        self.imm32(disp);
    }

    /// `mov to, [base + disp]`
    pub(crate) fn load(&mut self, to: u8, base: u8, disp: i32) {
        self.wide_memory(0x8B, to, base, RSP, 0, disp);
    }

    /// `mov to, [base + index + disp]`
    pub(crate) fn load_indexed(&mut self, to: u8, base: u8, index: u8, disp: i32) {
        self.wide_memory(0x8B, to, base, index, 0, disp);
    }

    /// `mov [base + disp], from`
    pub(crate) fn store(&mut self, base: u8, disp: i32, from: u8) {
        self.wide_memory(0x89, from, base, RSP, 0, disp);
    }

    /// `mov [base + index + disp], from`
    pub(crate) fn store_indexed(&mut self, base: u8, index: u8, disp: i32, from: u8) {
        self.wide_memory(0x89, from, base, index, 0, disp);
    }

    /// `mov qword [base + index + disp], value`
    pub(crate) fn store_value(&mut self, base: u8, index: u8, disp: i32, value: i32) {
        self.wide_memory(0xC7, 0, base, index, 0, disp);
        self.imm32(value);
    }

    /// `mov qword [base + disp], value`
    pub(crate) fn store_value_at(&mut self, base: u8, disp: i32, value: i32) {
        self.wide_memory(0xC7, 0, base, RSP, 0, disp);
        self.imm32(value);
    }

    /// `mov dword [base + disp], value`
    pub(crate) fn store_dword(&mut self, base: u8, disp: i32, value: u32) {
        self.bytes(&[0x40 | base >> 3, 0xC7]);
        self.memory(0, base, RSP, 0, disp);
        self.bytes(&value.to_le_bytes());
    }

    /// `xor to, [base + index + disp]`
    pub(crate) fn xor_indexed(&mut self, to: u8, base: u8, index: u8, disp: i32) {
        self.wide_memory(0x33, to, base, index, 0, disp);
    }

    /// `xor to, [base + disp]`
    pub(crate) fn xor_memory(&mut self, to: u8, base: u8, disp: i32) {
        self.wide_memory(0x33, to, base, RSP, 0, disp);
    }

    /// `sub [base + disp], by`
    pub(crate) fn subtract_from_memory(&mut self, base: u8, disp: i32, by: u8) {
        self.wide_memory(0x29, by, base, RSP, 0, disp);
    }

    /// `cmp [base + disp], with`
    pub(crate) fn compare_memory(&mut self, base: u8, disp: i32, with: u8) {
        self.wide_memory(0x39, with, base, RSP, 0, disp);
    }

    /// `cmp qword [base + disp], value`
    pub(crate) fn compare_memory_value(&mut self, base: u8, disp: i32, value: i32) {
        self.wide_memory(0x81, 7, base, RSP, 0, disp);
        self.imm32(value);
    }

    /// An instruction with `[base + disp]`; `reg` may be a part of its opcode.
    pub(crate) fn narrow_memory(&mut self, opcode: &[u8], reg: u8, base: u8, disp: i32) {
        self.bytes(&[0x40 | (reg >> 3) << 2 | base >> 3]);
        self.bytes(opcode);
        self.memory(reg, base, RSP, 0, disp);
    }

    /// An instruction for 1, 2, 4 or 8 bytes: `opcode` for one, the next one for others.
    fn sized(&mut self, rex: u8, opcode: u8, len: usize, operands: &[u8]) {
        if len == 2 {
            self.bytes(&[0x66]);
        }
        self.bytes(&[rex | u8::from(len == 8) << 3, opcode | u8::from(len != 1)]);
        self.bytes(operands);
    }

    /// `mov al, [r11 + r10]`, or AX, EAX, RAX
    pub(crate) fn load_sized_to_rax(&mut self, len: usize) {
        self.sized(0x43, 0x8A, len, &[0x04, 0x13]);
    }

    /// `mov [r11 + r10], al`, or AX, EAX, RAX
    pub(crate) fn store_sized_from_rax(&mut self, len: usize) {
        self.sized(0x43, 0x88, len, &[0x04, 0x13]);
    }

    /// `mov r10b, [r11 + r10]`, or R10W, R10D, R10
    pub(crate) fn load_sized_to_r10(&mut self, len: usize) {
        self.sized(0x47, 0x8A, len, &[0x14, 0x13]);
    }

    /// `mov [r11], r10b`, or R10W, R10D, R10
    pub(crate) fn store_sized_from_r10(&mut self, len: usize) {
        self.sized(0x45, 0x88, len, &[0x13]);
    }

    /// `rep movsb`, or `rep stosb`, or a longer form
    pub(crate) fn repeat(&mut self, loads: bool, len: usize) {
        let opcode = if loads { 0xA4 } else { 0xAA };
        match len {
            1 => self.bytes(&[0xF3, opcode]),
            2 => self.bytes(&[0x66, 0xF3, opcode | 1]),
            4 => self.bytes(&[0xF3, opcode | 1]),
            _ => self.bytes(&[0xF3, 0x48, opcode | 1]),
        }
    }

    /// `cmp dword [r11 + disp], value`
    pub(crate) fn compare_dword_at_r11(&mut self, disp: u8, value: [u8; 4]) {
        self.bytes(&[0x41, 0x81, 0x7B, disp]);
        self.bytes(&value);
    }

    /// `cmp byte [r11 + disp], value`
    pub(crate) fn compare_byte_at_r11(&mut self, disp: u8, value: u8) {
        self.bytes(&[0x41, 0x80, 0x7B, disp, value]);
    }

    /// `cmp dword [base], 0`
    pub(crate) fn compare_zero(&mut self, base: u8) {
        self.bytes(&[0x40 | base >> 3, 0x83]);
        self.memory(7, base, RSP, 0, 0);
        self.bytes(&[0]);
    }

    /// `cmp byte [rsp + disp], value`
    pub(crate) fn compare_byte(&mut self, disp: i32, value: u8) {
        self.bytes(&[0x80]);
        self.memory(7, RSP, RSP, 0, disp);
        self.bytes(&[value]);
    }

    /// `test reg8, mask`
    pub(crate) fn test_low_byte(&mut self, reg: u8, mask: u8) {
        self.bytes(&[0x40 | reg >> 3, 0xF6, 0xC0 | (reg & 7), mask]);
    }

    /// `cmp reg, value`
    pub(crate) fn compare_value(&mut self, reg: u8, value: i32) {
        self.bytes(&[0x48 | reg >> 3, 0x81, 0xF8 | (reg & 7)]);
        self.imm32(value);
    }

    /// `test reg, mask`, the mask extended by its sign
    pub(crate) fn test_value(&mut self, reg: u8, mask: i32) {
        self.bytes(&[0x48 | reg >> 3, 0xF7, 0xC0 | (reg & 7)]);
        self.imm32(mask);
    }

    /// `mov to, from` of 32 bits
    pub(crate) fn mov_low(&mut self, to: u8, from: u8) {
        self.bytes(&[0x40 | (from >> 3) << 2 | to >> 3, 0x89]);
        self.bytes(&[0xC0 | (from & 7) << 3 | (to & 7)]);
    }

    /// `mov to, from`, or `movsxd`
    pub(crate) fn mov_extended(&mut self, to: u8, from: u8, wide: bool) {
        if wide {
            return self.mov(to, from);
        }
        self.bytes(&[0x48 | (to >> 3) << 2 | from >> 3, 0x63]);
        self.bytes(&[0xC0 | (to & 7) << 3 | (from & 7)]);
    }

    /// `bt r10, number`, or of 32 bits
    pub(crate) fn test_bit(&mut self, number: u8, wide: bool) {
        self.bytes(&[0x41 | u8::from(wide) << 3 | (number >> 3) << 2, 0x0F, 0xA3]);
        self.bytes(&[0xC0 | (number & 7) << 3 | (R10 & 7)]);
    }

    /// `bts [r11], r10` and so on, or R10D; `opcode` is what follows 0F
    pub(crate) fn change_bit(&mut self, opcode: u8, wide: bool, locked: bool) {
        if locked {
            self.bytes(&[0xF0]);
        }
        self.bytes(&[0x45 | u8::from(wide) << 3, 0x0F, opcode, 0x13]);
    }

    /// `shr reg, count`
    pub(crate) fn shift_right(&mut self, reg: u8, count: u8) {
        self.bytes(&[0x48 | reg >> 3, 0xC1, 0xE8 | (reg & 7), count]);
    }

    /// R10 to R11, and bit number `count` of it to bit 0; what is at the other end does not matter. Flags may
    /// be overwritten.
    pub(crate) fn bits_from(&mut self, count: u8) {
        if is_x86_feature_detected!("bmi2") {
            // rorx r11, r10, count
            self.bytes(&[0xC4, 0x43, 0xFB, 0xF0, 0xDA, count]);
        } else {
            self.mov(R11, R10);
            self.shift_right(R11, count);
        }
    }

    /// `value - reg` into a register from R8 on: `neg reg; add reg, value`
    pub(crate) fn subtract_from_value(&mut self, value: i32, reg: u8) {
        self.bytes(&[0x49, 0xF7, 0xD8 | (reg & 7)]);
        self.bytes(&[0x49, 0x81, 0xC0 | (reg & 7)]);
        self.bytes(&value.to_le_bytes());
    }

    /// `test reg, reg`, of a register before R8
    pub(crate) fn test(&mut self, reg: u8) {
        self.bytes(&[0x48, 0x85, 0xC0 | reg << 3 | reg]);
    }

    /// `shl reg, count`
    pub(crate) fn shift_left(&mut self, reg: u8, count: u8) {
        self.bytes(&[0x48 | reg >> 3, 0xC1, 0xE0 | (reg & 7), count]);
    }

    /// `sar reg, count`
    pub(crate) fn shift_right_signed(&mut self, reg: u8, count: u8) {
        self.bytes(&[0x48 | reg >> 3, 0xC1, 0xF8 | (reg & 7), count]);
    }

    /// `cmp one, other`
    pub(crate) fn compare(&mut self, one: u8, other: u8) {
        self.wide(0x39, other, one);
    }

    /// `cmp one, other` of 32 bits
    pub(crate) fn compare_low(&mut self, one: u8, other: u8) {
        self.bytes(&[0x40 | (other >> 3) << 2 | one >> 3, 0x39]);
        self.bytes(&[0xC0 | (other & 7) << 3 | (one & 7)]);
    }

    /// `mov r11, [r11 + r10]`, of 64 or 32 bits
    pub(crate) fn load_divisor(&mut self, wide: bool) {
        self.bytes(&[0x47 | u8::from(wide) << 3, 0x8B, 0x1C, 0x13]);
    }

    /// `div by`, of 64 or 32 bits
    pub(crate) fn divide(&mut self, wide: bool, by: u8) {
        let rex = 0x40 | u8::from(wide) << 3 | by >> 3;
        self.bytes(&[rex, 0xF7, 0xF0 | (by & 7)]);
    }

    /// `and reg32, mask`
    pub(crate) fn and(&mut self, reg: u8, mask: u32) {
        self.bytes(&[0x40 | reg >> 3, 0x81, 0xE0 | (reg & 7)]);
        self.bytes(&mask.to_le_bytes());
    }

    /// `call [rsp + disp]`
    pub(crate) fn call_frame(&mut self, disp: i32) {
        self.bytes(&[0xFF]);
        self.memory(2, RSP, RSP, 0, disp);
    }

    /// `jmp [base + disp]`
    pub(crate) fn jump_memory(&mut self, base: u8, disp: i32) {
        self.bytes(&[0x40 | base >> 3, 0xFF]);
        self.memory(4, base, RSP, 0, disp);
    }

    /// `jmp` to a place to be patched.
    pub(crate) fn jump(&mut self) -> Hole {
        self.bytes(&[0xE9]);
        self.hole()
    }

    /// `jcc` to a place to be patched; `condition` as in encodings.
    pub(crate) fn jump_if(&mut self, condition: u8) -> Hole {
        self.bytes(&[0x0F, 0x80 | condition]);
        self.hole()
    }

    fn hole(&mut self) -> Hole {
        self.imm32(0);
        Hole(self.position() - 4)
    }

    /// `jmp` to a place behind or before.
    pub(crate) fn jump_to(&mut self, target: usize) {
        let hole = self.jump();
        self.lead(hole, target);
    }

    /// `jmp` to a place near behind it; where it ends, for [`Self::patch_short`].
    pub(crate) fn jump_short(&mut self) -> usize {
        self.bytes(&[0xEB, 0]);
        self.position()
    }

    /// Has the short branch that ends at `end` lead here.
    pub(crate) fn patch_short(&mut self, end: usize) {
        let distance = self.position() - end;
        debug_assert!(distance < 128);
        self.code[end - 1] = distance as u8;
    }

    /// Has a branch lead here.
    pub(crate) fn here(&mut self, hole: Hole) {
        self.lead(hole, self.position());
    }

    /// Has a branch lead to a place behind or before.
    pub(crate) fn lead(&mut self, Hole(at): Hole, target: usize) {
        self.set_distance(at, target as i64 - (at as i64 + 4));
        self.branches.push((at, target));
    }

    fn set_distance(&mut self, at: usize, distance: i64) {
        self.code[at..at + 4].copy_from_slice(&(distance as i32).to_le_bytes());
    }

    /// Has branches between the code before `end` and that from there on lead there still when the
    /// latter is moved by `by` bytes.
    pub(crate) fn move_apart(&mut self, end: usize, by: i64) {
        for (at, target) in std::mem::take(&mut self.branches) {
            let moved = |place| if place < end { 0 } else { by };
            let distance = target as i64 - (at as i64 + 4);
            self.set_distance(at, distance + moved(target) - moved(at));
        }
    }
}

impl Hole {
    /// Where the distance is.
    pub(crate) fn position(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn text(build: impl FnOnce(&mut Assembler)) -> String {
        let mut assembler = Assembler::default();
        build(&mut assembler);
        let code = assembler.code().to_vec();
        let mut decoder = Decoder::with_ip(64, &code, 0, DecoderOptions::NONE);
        let texts: Vec<String> = decoder
            .iter()
            .map(|insn| {
                let memory = insn.op_kinds().any(|kind| kind == iced_x86::OpKind::Memory);
                let displacement = if memory { insn.memory_displacement64() as i64 } else { 0 };
                format!(
                    "{:?} {:?} {:?} {:?} {:?} {} {:x} {:?}",
                    insn.code(),
                    insn.op0_register(),
                    insn.op1_register(),
                    insn.memory_base(),
                    insn.memory_index(),
                    insn.memory_index_scale(),
                    displacement,
                    insn.op_count()
                )
            })
            .collect();
        texts.join("; ")
    }

    #[test]
    fn what_is_encoded_is_what_the_name_says() {
        let cases = [
            (text(|a| a.mov(R10, RAX)), "Mov_rm64_r64 R10 RAX None None 1 0 2"),
            (text(|a| a.mov_value(R10, 5)), "Mov_r32_imm32 R10D None None None 1 0 2"),
            (text(|a| a.mov_value(3, 1 << 40)), "Mov_r64_imm64 RBX None None None 1 0 2"),
            (text(|a| a.mov_value(9, u64::MAX)), "Mov_rm64_imm32 R9 None None None 1 0 2"),
            (text(|a| a.lea(R10, 13, Some((12, 3)), 0)), "Lea_r64_m R10 None R13 R12 8 0 2"),
            (text(|a| a.lea(R10, 5, None, 300)), "Lea_r64_m R10 None RBP None 1 12c 2"),
            (text(|a| a.lea_index(R10, 9, 2, 8)), "Lea_r64_m R10 None None R9 4 8 2"),
            (text(|a| a.load(R11, RSP, 64)), "Mov_r64_rm64 R11 None RSP None 1 40 2"),
            (text(|a| a.load_indexed(R11, 15, R11, 16)), "Mov_r64_rm64 R11 None R15 R11 1 10 2"),
            (text(|a| a.store(R11, 512, 1)), "Mov_rm64_r64 None RCX R11 None 1 200 2"),
            (
                text(|a| a.store_indexed(R11, 9, -8, 8)),
                "Mov_rm64_r64 None R8 R11 R9 1 fffffffffffffff8 2",
            ),
            (
                text(|a| a.store_value(R11, 9, -8, -1)),
                "Mov_rm64_imm32 None None R11 R9 1 fffffffffffffff8 2",
            ),
            (text(|a| a.store_value_at(R11, 8, -1)), "Mov_rm64_imm32 None None R11 None 1 8 2"),
            (text(|a| a.store_dword(RSP, 8, 7)), "Mov_rm32_imm32 None None RSP None 1 8 2"),
            (text(|a| a.xor_indexed(R10, 15, R11, 8)), "Xor_r64_rm64 R10 None R15 R11 1 8 2"),
            (text(|a| a.compare_memory(R11, 16, R10)), "Cmp_rm64_r64 None R10 R11 None 1 10 2"),
            (
                text(|a| a.compare_memory_value(15, 0x220, -4096)),
                "Cmp_rm64_imm32 None None R15 None 1 220 2",
            ),
            (text(|a| a.compare_zero(R11)), "Cmp_rm32_imm8 None None R11 None 1 0 2"),
            (text(|a| a.load(R11, 13, 0)), "Mov_r64_rm64 R11 None R13 None 1 0 2"),
            (text(|a| a.load(R11, 12, 0)), "Mov_r64_rm64 R11 None R12 None 1 0 2"),
            (text(|a| a.load_indexed(R11, 13, 12, 0)), "Mov_r64_rm64 R11 None R13 R12 1 0 2"),
            (
                text(|a| a.compare_dword_at_r11(4, [1; 4])),
                "Cmp_rm32_imm32 None None R11 None 1 4 2",
            ),
            (text(|a| a.compare_byte_at_r11(8, 1)), "Cmp_rm8_imm8 None None R11 None 1 8 2"),
            (text(|a| a.load_sized_to_rax(1)), "Mov_r8_rm8 AL None R11 R10 1 0 2"),
            (text(|a| a.load_sized_to_rax(8)), "Mov_r64_rm64 RAX None R11 R10 1 0 2"),
            (text(|a| a.store_sized_from_rax(2)), "Mov_rm16_r16 None AX R11 R10 1 0 2"),
            (text(|a| a.load_sized_to_r10(4)), "Mov_r32_rm32 R10D None R11 R10 1 0 2"),
            (text(|a| a.store_sized_from_r10(1)), "Mov_rm8_r8 None R10L R11 None 1 0 2"),
            (text(|a| a.store_sized_from_r10(8)), "Mov_rm64_r64 None R10 R11 None 1 0 2"),
            (text(|a| a.compare_low(RDX, R11)), "Cmp_rm32_r32 EDX R11D None None 1 0 2"),
            (text(|a| a.load_divisor(true)), "Mov_r64_rm64 R11 None R11 R10 1 0 2"),
            (text(|a| a.load_divisor(false)), "Mov_r32_rm32 R11D None R11 R10 1 0 2"),
            (text(|a| a.divide(true, R11)), "Div_rm64 R11 None None None 1 0 1"),
            (text(|a| a.divide(false, 9)), "Div_rm32 R9D None None None 1 0 1"),
            (text(|a| a.compare_value(R10, 4088)), "Cmp_rm64_imm32 R10 None None None 1 0 2"),
            (text(|a| a.shift_right(R11, 7)), "Shr_rm64_imm8 R11 None None None 1 0 2"),
            (text(|a| a.shift_left(R11, 4)), "Shl_rm64_imm8 R11 None None None 1 0 2"),
            (text(|a| a.shift_right_signed(R11, 16)), "Sar_rm64_imm8 R11 None None None 1 0 2"),
            (text(|a| a.compare(R11, R10)), "Cmp_rm64_r64 R11 R10 None None 1 0 2"),
            (text(|a| a.and(R11, 0x7FE0)), "And_rm32_imm32 R11D None None None 1 0 2"),
            (text(|a| a.call_frame(80)), "Call_rm64 None None RSP None 1 50 1"),
            (text(|a| a.jump_memory(R11, 8)), "Jmp_rm64 None None R11 None 1 8 1"),
            (text(|a| a.compare_byte(0x90, 2)), "Cmp_rm8_imm8 None None RSP None 1 90 2"),
            (text(|a| a.test_low_byte(R10, 15)), "Test_rm8_imm8 R10L None None None 1 0 2"),
            (text(|a| a.add(R11, R10)), "Add_rm64_r64 R11 R10 None None 1 0 2"),
            (text(|a| a.mov_extended(R11, 9, true)), "Mov_rm64_r64 R11 R9 None None 1 0 2"),
            (text(|a| a.mov_extended(R11, 1, false)), "Movsxd_r64_rm32 R11 ECX None None 1 0 2"),
            (text(|a| a.test_bit(R11, true)), "Bt_rm64_r64 R10 R11 None None 1 0 2"),
            (text(|a| a.test_bit(1, false)), "Bt_rm32_r32 R10D ECX None None 1 0 2"),
            (text(|a| a.change_bit(0xAB, true, true)), "Bts_rm64_r64 None R10 R11 None 1 0 2"),
            (text(|a| a.change_bit(0xBB, false, false)), "Btc_rm32_r32 None R10D R11 None 1 0 2"),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }
}
