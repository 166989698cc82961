//! x87 against the host's processor, and what the host cannot show: exceptions, other modes.

#[path = "../guest/mod.rs"]
mod guest;
mod native;
mod random;
#[path = "../rings/mod.rs"]
mod rings;

mod exceptions;
mod formats;
mod host;
