//! From bytes to [`Op`]s: the `iced-x86` decoder, then digestion.

mod amd;
mod block;
mod digest;
mod length;

pub(crate) use block::{BlockCache, Crossed};
pub(crate) use digest::{Decoded, MAX_LEN, decode_one, operand_size};
