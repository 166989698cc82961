//! The command line.

use iced_x86::Code;

use crate::case::CODE_LEN;
use crate::compare::Tolerance;

/// What to do.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// Number of cases.
    pub cases: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the first case.
    pub first: u64,
    /// Code sizes.
    pub bits: Vec<u32>,
    /// Only forms whose name contains this.
    pub code: Option<String>,
    /// Only these bytes.
    pub bytes: Option<([u8; CODE_LEN], usize)>,
    /// Failing forms that are shrunk and printed.
    pub show: usize,
    /// What is let pass.
    pub tolerance: Tolerance,
    /// List forms that are not tried.
    pub list: bool,
}

/// How to call it.
pub const USAGE: &str = "oracle [--cases N] [--seed S] [--first N] [--bits 16|32|64] \
[--code NAME] [--bytes HEX] [--show N] [--skip-unsupported] [--strict-flags] [--list]";

impl Arguments {
    /// From the command line.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Arguments {
            cases: 1_000_000,
            seed: 1,
            first: 0,
            bits: vec![64, 32, 16],
            code: None,
            bytes: None,
            show: 20,
            tolerance: Tolerance::default(),
            list: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--cases" => arguments.cases = number(&value()?)?,
                "--seed" => arguments.seed = number(&value()?)?,
                "--first" => arguments.first = number(&value()?)?,
                "--show" => arguments.show = number(&value()?)? as usize,
                "--bits" => arguments.bits = vec![code_size(&value()?)?],
                "--code" => arguments.code = Some(value()?),
                "--bytes" => arguments.bytes = Some(code_bytes(&value()?)?),
                "--skip-unsupported" => arguments.tolerance.skip_unsupported = true,
                "--strict-flags" => arguments.tolerance.strict_flags = true,
                "--list" => arguments.list = true,
                other => return Err(format!("{other} is unknown; {USAGE}")),
            }
        }
        Ok(arguments)
    }

    /// Whether forms of this name are wanted.
    #[must_use]
    pub fn wants(&self, code: Code) -> bool {
        self.code.as_ref().is_none_or(|name| format!("{code:?}").contains(name.as_str()))
    }

    /// The command that runs one case of this run alone.
    #[must_use]
    pub fn repeat(&self, number: u64) -> String {
        let mut text = format!("oracle --seed {} --first {number} --cases 1", self.seed);
        if let [bits] = self.bits[..] {
            text += &format!(" --bits {bits}");
        }
        if let Some(code) = &self.code {
            text += &format!(" --code {code}");
        }
        if let Some((bytes, len)) = &self.bytes {
            let digits: String = bytes[..*len].iter().map(|byte| format!("{byte:02x}")).collect();
            text += &format!(" --bytes {digits}");
        }
        text
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn code_size(text: &str) -> Result<u32, String> {
    match text {
        "16" => Ok(16),
        "32" => Ok(32),
        "64" => Ok(64),
        other => Err(format!("{other} is no code size")),
    }
}

fn code_bytes(text: &str) -> Result<([u8; CODE_LEN], usize), String> {
    let wrong = || format!("{text} is not 1 to {CODE_LEN} bytes in hexadecimal");
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks_exact(2);
    if digits.is_empty() || !pairs.remainder().is_empty() || digits.len() / 2 > CODE_LEN {
        return Err(wrong());
    }
    let mut bytes = [0; CODE_LEN];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok((bytes, digits.len() / 2))
}
