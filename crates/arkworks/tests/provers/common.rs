//! A circuit, and contexts with emulated cards.

use ark_bn254::Fr;
use ark_ff::Field;
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};
use ark_relations::lc;
use std::time::Duration;
use xdma::card::CardOptions;
use xdma_arkworks::{Context, ContextOptions};
use xdma_emulated_card::emulator::logic::{Design, MsmModelOptions};
use xdma_emulated_card::emulator::{EmulatedCard, EmulatorOptions};

/// Proves knowledge of an x with x^(2^squarings) = y.
#[derive(Clone, Copy, Debug)]
pub struct Squares {
    pub x: Fr,
    pub squarings: usize,
}

impl Squares {
    pub fn new(x: u64, squarings: usize) -> Self {
        Self { x: Fr::from(x), squarings }
    }

    pub fn output(&self) -> Fr {
        (0..self.squarings).fold(self.x, |x, _| x.square())
    }
}

impl ConstraintSynthesizer<Fr> for Squares {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let output = cs.new_input_variable(|| Ok(self.output()))?;
        let mut value = self.x;
        let mut variable = cs.new_witness_variable(|| Ok(value))?;
        for remaining in (0..self.squarings).rev() {
            value.square_in_place();
            let next = if remaining == 0 { output } else { cs.new_witness_variable(|| Ok(value))? };
            cs.enforce_r1cs_constraint(|| lc!() + variable, || lc!() + variable, || lc!() + next)?;
            variable = next;
        }
        Ok(())
    }
}

/// Options for tests: all MSMs of two or more pairs run on the card, and timeouts are short.
pub fn options() -> ContextOptions {
    ContextOptions { crossover: Some(2), timeout_margin: Duration::from_secs(5), ..ContextOptions::default() }
}

pub fn emulated(model: MsmModelOptions) -> EmulatedCard {
    EmulatedCard::start(EmulatorOptions::default(), Design::Msm(model).build()).unwrap()
}

/// A context and its emulated card.
pub struct Fixture {
    pub context: Context,
    pub emulated: EmulatedCard,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(MsmModelOptions::default(), options())
    }

    pub fn with(model: MsmModelOptions, options: ContextOptions) -> Self {
        // Only the first call in a process has an effect.
        let _ = tracing_subscriber::fmt().with_test_writer().without_time().try_init();
        let emulated = emulated(model);
        let card = xdma_emulated_card::connect(&emulated, CardOptions::default()).unwrap();
        Self { context: Context::open(&card, options).unwrap(), emulated }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.emulated.violations(), [], "the driver violated a rule of the card");
        }
    }
}
