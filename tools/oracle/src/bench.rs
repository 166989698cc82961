//! Host and engine side by side.

use std::io;

use crate::case::{Case, Outcome};
use crate::compare::{Difference, Tolerance, differences};
use crate::engine::Engine;
use crate::generate::instruction_of;
use crate::layout::{IMAGE, PAGE};
use crate::native::Native;
use crate::random::Random;

/// Both processors.
pub struct Bench {
    native: Native,
    engine: Engine,
    tolerance: Tolerance,
    amd: bool,
    scratch: Box<Outcome>,
}

/// Both outcomes of a case that differ.
pub struct Failure {
    /// On the host.
    pub native: Outcome,
    /// In the engine.
    pub engine: Outcome,
    /// In what.
    pub differences: Vec<Difference>,
}

impl Bench {
    /// Starts both.
    ///
    /// # Errors
    /// The child process cannot be started.
    pub fn start(tolerance: Tolerance, amd: bool) -> io::Result<Self> {
        let image = common_image();
        let native = Native::start(&image)?;
        let engine = Engine::new(&image);
        let tolerance = Tolerance { other_vendor: !amd, ..tolerance };
        Ok(Bench { native, engine, tolerance, amd, scratch: Box::new(Outcome::empty()) })
    }

    /// Runs a batch on both; gives those that fail, by their place in the batch.
    ///
    /// # Errors
    /// The child process cannot be started again.
    pub fn run(&mut self, cases: &[Case]) -> io::Result<Vec<(usize, Failure)>> {
        // The host works while the engine does.
        self.native.submit(cases)?;
        let engine: Vec<Outcome> = cases
            .iter()
            .map(|case| {
                self.engine.run(case, &mut self.scratch);
                (*self.scratch).clone()
            })
            .collect();
        let natives = self.native.collect(cases)?;
        let mut failures = Vec::new();
        for (number, (native, engine)) in natives.iter().zip(engine).enumerate() {
            let case = &cases[number];
            let instruction = instruction_of(case, self.amd);
            let differences = differences(case, &instruction, native, &engine, self.tolerance);
            if !differences.is_empty() {
                let native = native.clone();
                failures.push((number, Failure { native, engine, differences }));
            }
        }
        Ok(failures)
    }

    /// Runs one case.
    #[must_use]
    pub fn failure(&mut self, case: &Case) -> Option<Failure> {
        let mut failures = self.run(std::slice::from_ref(case)).ok()?;
        failures.pop().map(|(_, failure)| failure)
    }

    /// In what way a case fails; empty if it does not.
    #[must_use]
    pub fn signature(&mut self, case: &Case) -> String {
        let failure = self.failure(case);
        failure.map_or(String::new(), |failure| self.signature_of(case, &failure))
    }

    /// The instruction and the kinds of differences.
    #[must_use]
    pub fn signature_of(&self, case: &Case, failure: &Failure) -> String {
        let instruction = instruction_of(case, self.amd);
        let mut kinds: Vec<String> = failure
            .differences
            .iter()
            .map(|difference| match difference.field.as_str() {
                "end" => format!("{} not {}", difference.engine, difference.native),
                name if name.starts_with("zmm") => "vector".into(),
                name if name.starts_with("st") => "x87".into(),
                name if name.starts_with("memory") => "memory".into(),
                name if crate::compare::GPR_NAMES.contains(&name) => "register".into(),
                name => name.to_string(),
            })
            .collect();
        kinds.sort();
        kinds.dedup();
        format!("{:?}: {}", instruction.code(), kinds.join(", "))
    }
}

/// What all of memory looks like between cases: interesting values in a fixed order.
fn common_image() -> Box<[u8; IMAGE]> {
    let mut random = Random::of(0, 0);
    let mut image = Box::new([0; IMAGE]);
    for (number, lane) in image.chunks_exact_mut(8).enumerate() {
        let value =
            if (number * 8 / PAGE).is_multiple_of(2) { random.lanes() } else { random.value() };
        lane.copy_from_slice(&value.to_le_bytes());
    }
    image
}
