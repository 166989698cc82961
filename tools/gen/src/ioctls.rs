//! The ioctl numbers for Python; defined in `kvmshim_door::ioctls`.

use kvmshim_door::ioctls::TABLE;

use crate::python;

/// The text of `kvmshim/abi/ioctls_gen.py`.
pub fn python() -> String {
    let mut text = python::head(
        "KVM's ioctl numbers, by the kind of file descriptor that takes them.",
        "`kvmshim/door/src/ioctls.rs`",
    );
    text.push_str("from typing import Final\n");
    let mut kind = "";
    for (fd, name, number) in TABLE {
        if kind != *fd {
            text.push_str(&format!("\n# {fd}\n"));
            kind = fd;
        }
        text.push_str(&python::constant(name, u64::from(*number)));
    }
    text
}
