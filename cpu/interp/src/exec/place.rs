//! Operands by place: register, memory, immediate.

use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{IMM, MEM, Op};
use crate::stop::{Done, Stop};

/// Instantiates a handler for an operand size in bytes.
macro_rules! by_size {
    ($size:expr, $handler:ident $(, $generic:ty)*) => {
        match $size {
            1 => $handler::<u8 $(, $generic)*>,
            2 => $handler::<u16 $(, $generic)*>,
            4 => $handler::<u32 $(, $generic)*>,
            _ => $handler::<u64 $(, $generic)*>,
        }
    };
}
pub(crate) use by_size;

impl Cpu {
    /// Loads an operand.
    #[inline(always)]
    pub(crate) fn load<T: Int>(&mut self, op: &Op, place: u8) -> Result<T, Stop> {
        match place {
            MEM => self.read(op.seg, self.offset(op)),
            IMM => Ok(T::from_u64(op.imm)),
            register => Ok(self.get(register)),
        }
    }

    /// Stores an operand.
    #[inline(always)]
    pub(crate) fn store<T: Int>(&mut self, op: &Op, place: u8, value: T) -> Done {
        if place == MEM {
            return self.write(op.seg, self.offset(op), value);
        }
        self.set(place, value);
        Ok(())
    }

    /// Replaces the first operand by `f` of it.
    #[inline(always)]
    pub(crate) fn update<T: Int>(&mut self, op: &Op, mut f: impl FnMut(T) -> T) -> Done {
        if op.dst_is_memory() {
            return self.modify(op.seg, self.offset(op), op.lock, f);
        }
        let value = f(self.get(op.dst));
        self.set(op.dst, value);
        Ok(())
    }

    /// The far pointer in the memory operand: (selector, offset of `T`).
    pub(crate) fn load_far_pointer<T: Int>(&mut self, op: &Op) -> Result<(u16, u64), Stop> {
        let at = self.offset(op);
        let selector_at = at.wrapping_add(T::SIZE as u64) & op.address_mask;
        let offset: T = self.read(op.seg, at)?;
        let selector = self.read(op.seg, selector_at)?;
        Ok((selector, offset.to_u64()))
    }
}
