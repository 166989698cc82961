//! The ioctl numbers for Python; defined in `kvmshim_door::ioctls`.

use kvmshim_door::ioctls::{TABLE, not_served};

use crate::python;

/// What the names of Linux begin with; kvmshim's own are for nobody's table.
const KVM: &str = "KVM_";

/// The text of `kvmshim/abi/ioctls_gen.py`.
pub fn python() -> String {
    let mut text = python::head(
        "KVM's ioctl numbers, by the kind of file descriptor that takes them.",
        "`kvmshim/door/src/ioctls.rs`",
    );
    text.push_str("from typing import Final\n");
    text.push_str(&constants("", TABLE));
    text.push_str(&constants("not served: ", not_served::TABLE));
    text.push_str("\nTAKEN_BY: Final[dict[str, tuple[str, ...]]] = {\n");
    for (fd, name, _) in TABLE.iter().chain(not_served::TABLE).filter(|row| row.1.starts_with(KVM))
    {
        let kinds = format!("\"{}\",", fd.replace(", ", "\", \""));
        let kinds = if fd.contains(',') { kinds.trim_end_matches(',') } else { &kinds };
        text.push_str(&format!("    \"{name}\": ({kinds}),\n"));
    }
    text.push_str("}\n\"\"\"The kinds of file descriptor that take an ioctl.\"\"\"\n");
    text
}

fn constants(title: &str, table: &[(&str, &str, u32)]) -> String {
    let mut text = String::new();
    let mut kind = "";
    for (fd, name, number) in table {
        if kind != *fd {
            text.push_str(&format!("\n# {title}{fd}\n"));
            kind = fd;
        }
        text.push_str(&python::constant(name, u64::from(*number)));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_name_and_no_number_is_there_twice() {
        let rows = || TABLE.iter().chain(not_served::TABLE);
        let names: HashSet<_> = rows().map(|row| row.1).collect();
        let numbers: HashSet<_> = rows().map(|row| row.2).collect();
        assert_eq!((names.len(), numbers.len()), (rows().count(), rows().count()));
    }
}
