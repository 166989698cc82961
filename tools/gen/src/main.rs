//! Writes the generated Python modules: numbers and layouts are defined once, in Rust.
//!
//! `kvmshim-gen ROOT` writes `*_gen.py` below ROOT; `make gen-check` fails when that leaves a
//! difference. KVM's structures come from the `kvm-bindings` crate, MicroV's from `microv::abi`.

mod constants;
mod ioctls;
mod python;
mod structs;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(root) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: kvmshim-gen ROOT   (ROOT: the checkout to write the *_gen.py files in)");
        return ExitCode::FAILURE;
    };
    match write_all(&root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvmshim-gen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(root: &Path) -> std::io::Result<()> {
    let abi = root.join("kvmshim/abi");
    std::fs::write(abi.join("ioctls_gen.py"), ioctls::python())?;
    std::fs::write(abi.join("structs_gen.py"), structs::python())?;
    std::fs::write(abi.join("constants_gen.py"), constants::python())?;
    std::fs::write(root.join("microv/abi_gen.py"), microv::abi::python())
}
