//! Memory operands longer than a vector: save areas and x87 environments.
//!
//! SDM volume 2, "XSAVE", "FXSAVE", "FSAVE/FNSAVE"; APM volume 2, "Saving State". Such an operand is
//! accessed in pieces, whose offsets wrap at the address size, as AMD's processors do it: it can
//! have two runs of linear addresses. The first piece is checked before the others.

use cpu_defs::SegReg;
use cpu_mmu::{Access, AccessKind};

use crate::access::Span;
use crate::cpu::Cpu;
use crate::mode::Rights;
use crate::op::Op;
use crate::stop::{Done, Stop};

/// A run of linear addresses.
#[derive(Clone, Copy)]
struct Run {
    gla: u64,
    len: usize,
}

/// Linear addresses of an operand, checked against the segment.
#[derive(Clone, Copy)]
pub(crate) struct LongOperand {
    seg: u8,
    first: Run,
    wrapped: Option<Run>,
}

/// Where the bytes of an operand are.
#[derive(Clone, Copy)]
pub(crate) struct LongSpan {
    first: Span,
    wrapped: Option<(usize, Span)>,
}

impl LongSpan {
    /// `len` bytes (not none) from `at` on, in one or two pieces.
    fn pieces(self, at: usize, len: usize) -> (Option<(usize, Span)>, Option<Span>) {
        match self.wrapped {
            None => (Some((len, self.first.part(at, len))), None),
            Some((start, wrapped)) if at >= start => (None, Some(wrapped.part(at - start, len))),
            Some((start, wrapped)) => {
                let first_len = len.min(start - at);
                let rest = (len > first_len).then(|| wrapped.part(0, len - first_len));
                (Some((first_len, self.first.part(at, first_len))), rest)
            }
        }
    }
}

fn need(kind: AccessKind) -> u8 {
    if kind == AccessKind::Write { Rights::WRITE } else { Rights::READ }
}

impl Cpu {
    /// Linear address of the memory operand, before any check.
    pub(crate) fn unchecked_linear(&self, op: &Op) -> u64 {
        let segment = &self.arch.seg[usize::from(op.seg & 7)];
        let (offset, has_base) = (self.offset(op), op.seg >= SegReg::Fs as u8);
        match self.mode.code64 {
            true if !has_base => offset,
            true => segment.base.wrapping_add(offset),
            false => segment.base.wrapping_add(offset) & 0xFFFF_FFFF,
        }
    }

    /// Linear address of the first piece of the memory operand, which is `len` bytes (a power of
    /// two), aligned where that is asked for.
    pub(crate) fn first_piece(&self, op: &Op, len: usize, kind: AccessKind) -> Result<u64, Stop> {
        let gla = self.linear(op.seg, self.offset(op), len as u64, need(kind))?;
        self.check_alignment(op.seg, gla, len, len as u64)?;
        Ok(gla)
    }

    /// The same, translated.
    pub(crate) fn probe_first_piece(&mut self, op: &Op, len: usize, kind: AccessKind) -> Done {
        let gla = self.first_piece(op, len, kind)?;
        let access = Access { kind, privilege: self.mode.privilege };
        self.translate_span(op.seg, gla, len, access).map(|_| ())
    }

    /// The memory operand, of `len` bytes (at most a page). `piece_end` is the end of the piece
    /// that a byte belongs to, which does not wrap by itself.
    pub(crate) fn long_operand(
        &self,
        op: &Op,
        len: usize,
        kind: AccessKind,
        piece_end: impl Fn(usize) -> usize,
    ) -> Result<LongOperand, Stop> {
        let need = need(kind);
        let offset = self.offset(op);
        let behind = usize::try_from(op.address_mask - offset).unwrap_or(usize::MAX);
        let first_len = if behind < len { piece_end(behind).min(len) } else { len };
        let run = |offset: u64, len: usize| {
            self.linear(op.seg, offset, len as u64, need).map(|gla| Run { gla, len })
        };
        let first = run(offset, first_len)?;
        let next = offset.wrapping_add(first_len as u64) & op.address_mask;
        let wrapped = if first_len < len { Some(run(next, len - first_len)?) } else { None };
        Ok(LongOperand { seg: op.seg, first, wrapped })
    }

    /// Translates an operand whose alignment does not matter or has been checked.
    pub(crate) fn long_span(
        &mut self,
        operand: LongOperand,
        kind: AccessKind,
    ) -> Result<LongSpan, Stop> {
        let LongOperand { seg, first, wrapped } = operand;
        let access = Access { kind, privilege: self.mode.privilege };
        let start = first.len;
        let first = self.unaligned_span(seg, first.gla, first.len, access)?;
        let wrapped = match wrapped {
            Some(run) => Some((start, self.unaligned_span(seg, run.gla, run.len, access)?)),
            None => None,
        };
        Ok(LongSpan { first, wrapped })
    }

    /// Loads from `at` on.
    pub(crate) fn read_long(&mut self, span: LongSpan, at: usize, bytes: &mut [u8]) -> Done {
        let (first, rest) = span.pieces(at, bytes.len());
        let (head, tail) = bytes.split_at_mut(first.map_or(0, |(len, _)| len));
        if let Some((_, piece)) = first {
            self.read_parts(piece, head)?;
        }
        rest.map_or(Ok(()), |piece| self.read_parts(piece, tail))
    }

    /// Stores from `at` on.
    pub(crate) fn write_long(&mut self, span: LongSpan, at: usize, bytes: &[u8]) {
        let (first, rest) = span.pieces(at, bytes.len());
        let (head, tail) = bytes.split_at(first.map_or(0, |(len, _)| len));
        if let Some((_, piece)) = first {
            self.write_parts(piece, head);
        }
        if let Some(piece) = rest {
            self.write_parts(piece, tail);
        }
    }
}
