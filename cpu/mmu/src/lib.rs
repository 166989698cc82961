//! Linear to guest-physical translation.
//!
//! Follows the paging chapter of the Intel SDM volume 3. [`walk`] is the page walk of every paging
//! mode, a function of the paging registers ([`Paging`]), guest memory and the access; [`Tlb`]
//! keeps its results as host pages, so that a guest access that hits costs one compare;
//! [`resolve`] joins the two.
//!
//! Not here yet: shadow-stack pages, nested paging.
#![forbid(unsafe_code)]

mod access;
mod entry;
mod paging;
mod pdpte;
mod probe;
mod resolve;
mod table_cache;
mod tlb;
mod translation;
mod walk;

pub use access::{Access, AccessKind, Privilege};
pub use paging::{ControlRegisters, Mode, Paging, ROOT, is_canonical};
pub use pdpte::{Pdptes, load_pdptes};
pub use probe::{Failure, Found, Wanted, probe};
pub use resolve::{Target, resolve};
pub use tlb::{Flushed, Forget, Tlb, layout as tlb_layout};
pub use translation::{PageFault, PageSize, Rights, Translation};
pub use walk::{translate, walk};
