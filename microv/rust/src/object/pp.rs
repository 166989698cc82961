//! PP, physical processor: a thread of this process, from its first hypercall to its end.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::Machine;
use crate::outcome::Failure;
use crate::page::SharedPage;
use crate::slots::MapOperation;

/// The state of one PP; only its own thread touches it.
#[derive(Debug)]
pub struct Pp {
    machine: Arc<Machine>,
    id: u16,
    page: Option<SharedPage>,
    /// What tsc_set_khz was told on this PP.
    pub tsc_khz: Option<NonZeroU32>,
    /// A map or unmap call that answered "call again".
    pub operation: Option<MapOperation>,
}

impl Pp {
    /// A new PP; `None` when MV_MAX_PPS threads are PPs already.
    pub fn new(machine: Arc<Machine>) -> Option<Pp> {
        let id = machine.pps.take()?;
        Some(Pp { machine, id, page: None, tsc_khz: None, operation: None })
    }

    /// ppid, and the ID of its root VP and root VS.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// What this PP belongs to.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// The shared page.
    ///
    /// # Errors
    /// [`Failure::Unknown`] where none is set.
    pub fn page(&self) -> Result<&SharedPage, Failure> {
        self.page.as_ref().ok_or(Failure::Unknown)
    }

    /// Sets the shared page.
    ///
    /// # Errors
    /// [`Failure::Unknown`] where one is set already.
    pub fn set_page(&mut self, page: SharedPage) -> Result<(), Failure> {
        match self.page {
            None => {
                self.page = Some(page);
                Ok(())
            }
            Some(_) => Err(Failure::Unknown),
        }
    }

    /// Forgets the shared page, if one is set.
    pub fn clear_page(&mut self) {
        self.page = None;
    }
}

impl Drop for Pp {
    fn drop(&mut self) {
        // What the operation did is taken back before the ID can be another thread's.
        self.operation = None;
        self.machine.pps.give_back(self.id);
    }
}
