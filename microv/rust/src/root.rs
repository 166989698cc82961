//! The caller's side of hypercalls, for tests: a machine of its own, one PP, one shared page.

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::abi::hypercall as abi;
use crate::abi::index;
use crate::call::Regs;
use crate::dispatch::dispatch;
use crate::object::{Machine, Pp};

/// A page of this process, aligned as a shared page must be.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// A root VM with one PP, an open handle and a shared page.
pub struct Root {
    /// What its calls reach.
    pub machine: Arc<Machine>,
    /// Its only PP.
    pub pp: Pp,
    /// An open handle.
    pub handle: u64,
    page: Box<Page>,
}

impl Root {
    /// A root on a new machine.
    pub fn new() -> Root {
        let machine = Arc::new(Machine::default());
        let pp = Pp::new(Arc::clone(&machine)).unwrap();
        let handle = machine.handles.open().unwrap();
        let mut root = Root { machine, pp, handle, page: Box::new(Page([0; 4096])) };
        let address = root.page.0.as_mut_ptr().expose_provenance() as u64;
        let set = abi::MV_PP_OP_VAL | index::MV_PP_OP_SET_SHARED_PAGE_GPA_IDX_VAL;
        assert_eq!(root.call(set, [address, 0, 0]).0, 0);
        root
    }

    /// A VM with one VP with one VS; their IDs.
    pub fn create_vs(&mut self) -> [u64; 3] {
        let vm = self.call(abi::MV_VM_OP_VAL | index::MV_VM_OP_CREATE_VM_IDX_VAL, [0; 3]).1;
        let vp = self.call(abi::MV_VP_OP_VAL | index::MV_VP_OP_CREATE_VP_IDX_VAL, [vm, 0, 0]).1;
        let vs = self.call(abi::MV_VS_OP_VAL | index::MV_VS_OP_CREATE_VS_IDX_VAL, [vp, 0, 0]).1;
        [vm, vp, vs]
    }

    /// A hypercall with the handle in R10; status and R10.
    pub fn call(&mut self, rax: u64, [r11, r12, r13]: [u64; 3]) -> (u64, u64) {
        let mut regs = Regs { rax, r10: self.handle, r11, r12, r13 };
        dispatch(&mut self.pp, &mut regs);
        (regs.rax, regs.r10)
    }

    /// Puts a structure at the start of the page.
    pub fn write<T: IntoBytes + Immutable>(&mut self, value: &T) {
        self.pp.page().unwrap().write(0, value);
    }

    /// The structure at `offset` of the page.
    pub fn read<T: FromBytes>(&self, offset: usize) -> T {
        let mut bytes = vec![0; size_of::<T>()];
        self.pp.page().unwrap().copy_in(offset, &mut bytes);
        T::read_from_bytes(&bytes).unwrap()
    }
}
