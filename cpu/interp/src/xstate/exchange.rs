//! The whole state as one area in the standard format, for the host.

use std::fmt;

use cpu_host::{MXCSR, MXCSR_INIT, MXCSR_LEGAL};

use super::area::{Area, HEADER, HEADER_LEN, Image};
use super::components::{Form, numbers};
use super::layout::standard_len;
use super::{bit, supported};
use crate::cpu::Cpu;

/// Why an area cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XsaveError {
    /// It ends before its header or a component.
    Length,
    /// The compacted format, reserved bits, or components that this processor does not have.
    Header,
    /// Reserved bits of MXCSR.
    Mxcsr,
}

impl fmt::Display for XsaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an XSAVE area: {self:?}")
    }
}

impl std::error::Error for XsaveError {}

impl Cpu {
    /// Every component this processor has, whatever XCR0 says, as XSAVE64 writes them. The
    /// last-instruction pointers are there even where the guest's XSAVE hides them.
    #[must_use]
    pub fn xsave(&self) -> Vec<u8> {
        let image = Image { xstate_bv: self.xinuse_with_mxcsr(), xcomp_bv: 0 };
        let mut area = Area::new();
        for number in numbers(supported()) {
            if let Some(at) = image.offset(number) {
                self.put_component(&mut area, number, at, Form::WHOLE);
            }
        }
        self.put_mxcsr(&mut area);
        area.put(HEADER, &image.xstate_bv.to_le_bytes());
        area.bytes[..standard_len(supported())].to_vec()
    }

    /// Loads such an area; components that its header does not name get their initial
    /// configuration, as does MXCSR if none of x87, SSE and AVX is named.
    ///
    /// # Errors
    /// [`XsaveError`]; nothing changed.
    pub fn xrstor(&mut self, bytes: &[u8]) -> Result<(), XsaveError> {
        let header = bytes.get(HEADER..HEADER + HEADER_LEN).ok_or(XsaveError::Length)?;
        let header = std::array::from_fn(|at| header[at]);
        let image = Image::parse(&header, supported())
            .filter(|image| !image.is_compacted())
            .ok_or(XsaveError::Header)?;
        if bytes.len() < standard_len(image.xstate_bv) {
            return Err(XsaveError::Length);
        }
        let mut area = Area::new();
        let len = bytes.len().min(area.bytes.len());
        area.bytes[..len].copy_from_slice(&bytes[..len]);
        let names_mxcsr = image.xstate_bv & (bit::X87 | bit::SSE | bit::AVX) != 0;
        let mxcsr = if names_mxcsr { area.u32(MXCSR) } else { MXCSR_INIT };
        if mxcsr & !MXCSR_LEGAL != 0 {
            return Err(XsaveError::Mxcsr);
        }
        self.fpu.set_u32(MXCSR, mxcsr);
        self.restore_components(&area, &image, supported(), Form::WHOLE);
        Ok(())
    }
}
