//! The instructions that tier 0 may have to execute, where translated code finds them.

use crate::callout::{Site, SiteAddress};

/// Sites in a piece of memory.
const PIECE: usize = 512;

/// All of them. They stay where they are when more come: translated code has their addresses.
#[derive(Default)]
pub(crate) struct Sites {
    pieces: Vec<Vec<Site>>,
}

impl Sites {
    /// Where the next site will be.
    pub(crate) fn next(&mut self) -> SiteAddress {
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        let piece = self.pieces.last().map_or(&[][..], |piece| piece);
        piece.as_ptr_range().end.expose_provenance() as SiteAddress
    }

    /// Puts a site where [`Self::next`] has said.
    pub(crate) fn push(&mut self, site: Site) {
        if let Some(piece) = self.pieces.last_mut().filter(|piece| piece.len() < PIECE) {
            piece.push(site);
        }
    }

    /// Forgets them: no code has their addresses any more.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
    }

    /// Bytes of memory.
    pub(crate) fn footprint(&self) -> usize {
        self.pieces.len() * PIECE * size_of::<Site>()
    }
}

#[cfg(test)]
mod tests {
    use cpu_interp::op::{NONE, Op, Rep};

    use super::*;
    use crate::registers::Registers;

    fn site(rip: u64) -> Site {
        let op = Op {
            run: |_, _| Ok(()),
            imm: 0,
            disp: 0,
            address_mask: u64::MAX,
            base: NONE,
            index: NONE,
            scale: 0,
            seg: 0,
            dst: NONE,
            src: NONE,
            third: NONE,
            size: 8,
            fop: 0,
            len: 1,
            lock: false,
            rep: Rep::Once,
        };
        Site { op, rip, last: false, rest: 0, shadowed: false, loaded: Registers::NONE }
    }

    #[test]
    fn sites_are_where_it_was_said_and_stay_there() {
        let mut sites = Sites::default();
        let said: Vec<_> = (0..3 * PIECE as u64)
            .map(|rip| {
                let place = sites.next();
                assert_eq!(sites.next(), place, "nothing came");
                sites.push(site(rip));
                place
            })
            .collect();
        let found = sites.pieces.iter().flatten().map(|site| (&raw const *site).addr() as u64);
        assert_eq!(found.collect::<Vec<_>>(), said);
        assert_eq!(sites.footprint(), said.len() * size_of::<Site>());
    }
}
