//! The witness generators of `semaphore-rs`: graphs of additions and multiplications, in the format of its package
//! `semaphore-rs-witness`, which takes far longer to compile than this.

use anyhow::{Context, Result, ensure};
use ark_bn254::Fr;
use ark_ff::{One, PrimeField};
use ark_serialize::CanonicalDeserialize;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use std::collections::HashMap;

/// Computes the values of all wires of a circuit from its inputs.
#[derive(Deserialize)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    /// For each wire, the node that computes its value.
    wires: Vec<usize>,
    inputs: Vec<Input>,
}

/// Only nodes before this one are operands.
#[derive(Deserialize)]
enum Node {
    Input(usize),
    Constant(#[serde(deserialize_with = "big_endian")] Fr),
    MontgomeryConstant(#[serde(deserialize_with = "canonical")] Fr),
    Operation(Operation, usize, usize),
}

/// The format has more operations, but graphs of additions and multiplications contain none of them, nor `MontgomeryMul`.
#[derive(Deserialize)]
enum Operation {
    Mul,
    MontgomeryMul,
    Add,
    Sub,
}

/// An input of the circuit, which may be an array.
#[derive(Deserialize)]
struct Input {
    name_hash: u64,
    first: usize,
    len: usize,
}

impl Graph {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        Ok(postcard::from_bytes(bytes)?)
    }

    /// Returns the value of each wire.
    ///
    /// # Errors
    /// The graph does not have these inputs, or is corrupt.
    pub(crate) fn evaluate(&self, inputs: &[(&str, &[Fr])]) -> Result<Vec<Fr>> {
        let mut input_values = HashMap::from([(0, Fr::one())]);
        for (name, values) in inputs {
            let hash = fnv1a(name);
            let input = self.inputs.iter().find(|input| input.name_hash == hash);
            let input = input.with_context(|| format!("it has no input {name}"))?;
            ensure!(
                input.len == values.len(),
                "its input {name} has {} values instead of {}",
                input.len,
                values.len()
            );
            input_values.extend((input.first..).zip(values.iter().copied()));
        }
        let mut values = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            values.push(node.value(&values, &input_values).context("it contains an invalid node")?);
        }
        let wires = self.wires.iter().map(|node| values.get(*node).copied());
        wires.collect::<Option<_>>().context("it contains an invalid wire")
    }
}

impl Node {
    fn value(&self, values: &[Fr], inputs: &HashMap<usize, Fr>) -> Option<Fr> {
        match self {
            Self::Input(index) => inputs.get(index).copied(),
            Self::Constant(value) | Self::MontgomeryConstant(value) => Some(*value),
            Self::Operation(operation, a, b) => {
                let (a, b) = (*values.get(*a)?, *values.get(*b)?);
                match operation {
                    Operation::Mul => Some(a * b),
                    Operation::MontgomeryMul => None,
                    Operation::Add => Some(a + b),
                    Operation::Sub => Some(a - b),
                }
            }
        }
    }
}

fn fnv1a(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn big_endian<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fr, D::Error> {
    <&[u8]>::deserialize(deserializer).map(Fr::from_be_bytes_mod_order)
}

fn canonical<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fr, D::Error> {
    Fr::deserialize_compressed(<&[u8]>::deserialize(deserializer)?).map_err(D::Error::custom)
}
