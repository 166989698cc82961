//! Pieces of generated Python.

/// First lines of a generated module.
pub fn head(subject: &str, source: &str) -> String {
    format!("\"\"\"{subject}\n\nGenerated from {source} by `make gen`; do not edit.\n\"\"\"\n\n")
}

/// A constant with its value in hexadecimal.
pub fn constant(name: &str, value: u64) -> String {
    format!("{name}: Final = {value:#x}\n")
}
