//! Prints the ABI as the Python module `microv/abi_gen.py`.

use std::fmt::Write;

use super::define::{Field, Layout};

const HEAD: &str = "\
# Generated from microv/rust/src/abi by `make gen`; do not edit.
\"\"\"Numbers and page layouts of the hypercall ABI.\"\"\"

import ctypes
from typing import Final
";

/// The text of `abi_gen.py`.
pub fn python() -> String {
    let mut out = HEAD.to_owned();
    for (subject, rows) in super::constants() {
        let _ = write!(out, "\n# {subject}\n");
        for (name, value) in rows {
            let _ = writeln!(out, "{name}: Final = {value:#X}");
        }
    }
    for layout in super::layouts() {
        out.push_str(&class(layout));
    }
    out
}

fn class(layout: &Layout) -> String {
    let Layout { name, size, fields } = layout;
    let mut out = format!("\n\nclass {name}(ctypes.LittleEndianStructure):\n");
    let pairs =
        fields.iter().map(|field| format!("(\"{}\", {}),", plain(field.name), (field.ctype)()));
    // As ruff formats a tuple: one element stays on the line, more get lines of their own.
    let tuple = match fields.len() {
        1 => pairs.collect::<String>(),
        _ => pairs.map(|pair| format!("\n        {pair}")).chain(["\n    ".to_owned()]).collect(),
    };
    let _ = write!(out, "    _pack_ = 1\n    _fields_ = ({tuple})\n");
    for field in *fields {
        let _ = writeln!(out, "    {}: {}", plain(field.name), annotation(field));
    }
    let _ = write!(out, "\n\nassert ctypes.sizeof({name}) == {size:#x}\n");
    out
}

/// The specification's name, which may be a keyword of Rust.
fn plain(name: &str) -> &str {
    name.trim_start_matches("r#")
}

fn annotation(field: &Field) -> String {
    let ctype = (field.ctype)();
    match ctype.split_once(" * ") {
        Some((element, _)) => format!("\"ctypes.Array[{element}]\""),
        None if ctype.starts_with("ctypes.") => "int".to_owned(),
        None => ctype,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_defined_twice() {
        let mut names: Vec<_> = super::super::constants()
            .into_iter()
            .flat_map(|(_, rows)| rows)
            .map(|(n, _)| n)
            .collect();
        let total = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), total);
    }

    #[test]
    fn fields_leave_no_gap() {
        for layout in super::super::layouts() {
            let mut end = 0;
            for field in layout.fields {
                assert_eq!(field.offset, end, "{}.{}", layout.name, field.name);
                end += field.size;
            }
            assert_eq!(end, layout.size, "{}", layout.name);
        }
    }

    #[test]
    fn a_structure_follows_those_it_contains() {
        let text = python();
        let entry = text.find("class mv_mdl_entry_t").unwrap();
        let list = text.find("class mv_mdl_t").unwrap();
        assert!(entry < list);
        assert!(text.contains("(\"entries\", mv_mdl_entry_t * 125),"));
    }
}
