//! mv_exit_io_t: the guest accesses a port.

use std::mem::offset_of;

use cpu_engine::{IoDirection, IoExit};
use zerocopy::{FromZeros, IntoBytes};

use crate::abi::run::{
    MV_EXIT_IO_IN, MV_EXIT_IO_OUT, mv_bit_size_t_8, mv_bit_size_t_16, mv_bit_size_t_32,
    mv_exit_io_t, mv_exit_reason_t_io,
};
use crate::outcome::Outcome;
use crate::page::SharedPage;

/// Reports the access. Data is on the page for OUT; for IN the next run brings it.
pub fn report(page: &SharedPage, exit: &IoExit) -> Outcome {
    let bytes = exit.count * u32::from(exit.size);
    let mut layout = mv_exit_io_t::new_zeroed();
    layout.addr = exit.port.into();
    layout.reps = exit.count.into();
    layout.r#type = match exit.dir {
        IoDirection::In => MV_EXIT_IO_IN,
        IoDirection::Out => MV_EXIT_IO_OUT,
    };
    layout.size = match exit.size {
        1 => mv_bit_size_t_8,
        2 => mv_bit_size_t_16,
        _ => mv_bit_size_t_32,
    } as i32;
    layout.bytes = bytes;
    let valid = match exit.dir {
        IoDirection::In => 0,
        IoDirection::Out => bytes as usize,
    };
    layout.data[..valid].copy_from_slice(&exit.data[..valid]);
    page.copy_out(super::OFFSET, &layout.as_bytes()[..offset_of!(mv_exit_io_t, data) + valid]);
    super::reason(mv_exit_reason_t_io)
}
