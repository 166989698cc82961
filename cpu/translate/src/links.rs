//! The branches that can be linked, by number. They are many: what is known of each is kept short.

use cpu_mem::PAGE_SIZE;

use crate::block::LinkPlace;
use crate::flags::FlagState;
use crate::pages::At;
use crate::registers::Registers;

/// For so many links more memory is made at a time: a half of it is not to lie idle.
const MORE: usize = 1 << 12;

/// A branch to an address in its own page.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    /// [`crate::pages::Pages::number`] of that.
    pub page: u32,
    /// Where its distance is.
    pub place: At,
    /// Where in the page it leads.
    pub offset: u16,
    /// Where the flags are on the way.
    pub state: FlagState,
    /// What is loaded on the way.
    pub loaded: Registers,
    /// To a twin, see [`crate::group`].
    pub twin: bool,
}

/// All of them. The first has number 1.
#[derive(Default)]
pub(crate) struct Links(Vec<Link>);

impl Links {
    /// The number of the next one.
    pub(crate) fn next(&self) -> u32 {
        self.0.len() as u32 + 1
    }

    /// The one of this number, if there is one.
    pub(crate) fn get(&self, number: u64) -> Option<Link> {
        self.0.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }

    /// Adds those of a block in a page; `at` says where in memory a place is.
    pub(crate) fn add(
        &mut self,
        page: u32,
        links: impl ExactSizeIterator<Item = LinkPlace>,
        at: impl Fn(usize) -> At,
    ) {
        if self.0.capacity() - self.0.len() < links.len() {
            self.0.reserve_exact(links.len().max(MORE));
        }
        self.0.extend(links.map(|link| Link {
            page,
            place: at(link.place),
            offset: link.target as u16 % PAGE_SIZE as u16,
            state: link.state,
            loaded: link.loaded,
            twin: link.twin,
        }));
    }

    /// Bytes of memory.
    pub(crate) fn footprint(&self) -> usize {
        self.0.capacity() * size_of::<Link>()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
