//! mv_vs_op_dirty_log_take and mv_vm_op_dirty_log_clear_list: lists of pages on the shared page.

use std::mem::offset_of;

use microv::abi::hypercall::{MV_VM_OP_VAL, MV_VS_OP_VAL};
use microv::abi::index::{MV_VM_OP_DIRTY_LOG_CLEAR_LIST_IDX_VAL, MV_VS_OP_DIRTY_LOG_TAKE_IDX_VAL};
use microv::abi::map::mv_written_t;
use microv::abi::status::MV_STATUS_SUCCESS;

use crate::root_page::{call, with_page};

const MOST: usize =
    (size_of::<mv_written_t>() - offset_of!(mv_written_t, pages)) / size_of::<u64>();

/// Hands `each` the pages that the VS has written and nobody was told of.
pub fn take(vsid: u16, mut each: impl FnMut(&[u64])) {
    loop {
        let found = with_page(|page| {
            let index = MV_VS_OP_DIRTY_LOG_TAKE_IDX_VAL;
            let (status, _) = call(MV_VS_OP_VAL, index, vsid.into(), 0);
            (status == MV_STATUS_SUCCESS).then(|| page.get::<mv_written_t>(0))
        });
        let Some(list) = found else { return };
        let count = (list.num_pages as usize).min(MOST);
        each(&list.pages[..count]);
        if count < MOST {
            return;
        }
    }
}

/// Has the pages logged anew, from before it returns.
pub fn clear(vmid: u16, pages: &[u64]) {
    for portion in pages.chunks(MOST) {
        with_page(|page| {
            page.put(offset_of!(mv_written_t, num_pages), &(portion.len() as u64));
            for (number, gpa) in portion.iter().enumerate() {
                page.put(offset_of!(mv_written_t, pages) + number * size_of::<u64>(), gpa);
            }
            // A VM that is gone logs nothing.
            call(MV_VM_OP_VAL, MV_VM_OP_DIRTY_LOG_CLEAR_LIST_IDX_VAL, vmid.into(), 0);
        });
    }
}
