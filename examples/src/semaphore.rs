//! A real circuit: Semaphore. A member of a group sends a signal once, without revealing which member it is. The group is a
//! Merkle tree. The proving keys and witness generators are those of the package `semaphore-rs`, embedded in the program.

use crate::human::cannot;
use crate::witness::Graph;
use anyhow::{Context, Result, ensure};
use ark_bn254::{Bn254, Fr};
use ark_ff::{PrimeField, Zero};
use ark_groth16::{Groth16, PreparedVerifyingKey, Proof, ProvingKey, prepare_verifying_key};
use ark_serialize::{CanonicalDeserialize, SerializationError};
use clap::Args;
use ruint::aliases::U256;
use semaphore_rs_ark_circom::ConstraintMatrices;
use semaphore_rs_poseidon::poseidon::{hash1, hash2};
use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

/// The proving key and the witness generator for a depth.
macro_rules! embedded {
    ($depth:literal) => {
        (
            $depth,
            include_bytes!(concat!(env!("SEMAPHORE_DIR"), "/assets/", $depth, "/semaphore.arkzkey")),
            include_bytes!(concat!(env!("SEMAPHORE_DIR"), "/graphs/", $depth, "/graph.bin")),
        )
    };
}

/// The embedded files. Depths 16 and 20 are for tests and demonstrations; real groups have depth 30.
const EMBEDDED: [(usize, &[u8], &[u8]); 3] = [embedded!(16), embedded!(20), embedded!(30)];

/// The options for the circuit.
#[derive(Args, Clone, Debug)]
pub struct CircuitArgs {
    /// Depth of the group's tree, which has 2^depth leaves: 16, 20 or 30, unless `--key` is a key for another depth.
    #[arg(long, default_value_t = 20)]
    pub depth: usize,
    /// Proving key to use instead of an embedded one, in the format of `ark-zkey`.
    #[arg(long, value_name = "FILE", requires = "graph")]
    pub key: Option<PathBuf>,
    /// Witness generator that belongs to `--key`.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub graph: Option<PathBuf>,
}

/// A circuit without its key.
pub struct Circuit {
    pub depth: usize,
    pub constraints: ConstraintMatrices<Fr>,
    verifying_key: PreparedVerifyingKey<Bn254>,
    graph: Graph,
}

/// The values of all wires of the circuit.
pub struct Witness {
    /// The constant one, then the public inputs, then the private values.
    pub assignment: Vec<Fr>,
    /// The public inputs: root of the tree, hash of the nullifier, signal, external nullifier.
    public: [Fr; 4],
}

impl CircuitArgs {
    /// Reads the circuit and its proving key.
    ///
    /// # Errors
    /// If there is no embedded key for the depth, or a file cannot be read or is corrupt.
    pub fn read(&self) -> Result<(Circuit, ProvingKey<Bn254>)> {
        let (key, graph) = match (&self.key, &self.graph) {
            (Some(key), Some(graph)) => (Cow::Owned(read_file(key)?), Cow::Owned(read_file(graph)?)),
            _ => {
                let embedded = EMBEDDED.iter().find(|(depth, ..)| *depth == self.depth);
                let (_, key, graph) = embedded.with_context(|| {
                    format!(
                        "there is no embedded key for depth {}: use 16, 20 or 30, or pass files with --key and --graph",
                        self.depth
                    )
                })?;
                (Cow::Borrowed(*key), Cow::Borrowed(*graph))
            }
        };
        let (key, constraints) =
            read_key(&key).context("the proving key is corrupt or has another format")?;
        let graph = Graph::read(&graph).context("the witness generator is corrupt or has another format")?;
        let verifying_key = prepare_verifying_key(&key.vk);
        Ok((Circuit { depth: self.depth, constraints, verifying_key, graph }, key))
    }
}

impl Circuit {
    /// Computes the witness for a group with one member, which sends `signal`.
    ///
    /// # Errors
    /// If the generator fails, or its public inputs differ from those computed here.
    pub fn witness(&self, signal: u64) -> Result<Witness> {
        let [trapdoor, nullifier, external_nullifier, signal] = [11, 22, 2026, signal].map(U256::from);
        let commitment = hash1(hash2(nullifier, trapdoor));
        let (root, siblings) = single_leaf_tree(commitment, self.depth);
        let siblings: Vec<_> = siblings.into_iter().map(to_field).collect();
        let inputs: [(_, &[Fr]); 6] = [
            ("identityTrapdoor", &[to_field(trapdoor)]),
            ("identityNullifier", &[to_field(nullifier)]),
            ("treeSiblings", &siblings),
            ("treePathIndices", &vec![Fr::zero(); self.depth]),
            ("externalNullifier", &[to_field(external_nullifier)]),
            ("signalHash", &[to_field(signal)]),
        ];
        let assignment = self
            .graph
            .evaluate(&inputs)
            .context("the witness generator failed, perhaps because it is for another depth")?;
        let witness = Witness {
            assignment,
            public: [root, hash2(external_nullifier, nullifier), signal, external_nullifier].map(to_field),
        };
        ensure!(
            witness.assignment.get(1..self.input_count()) == Some(&witness.public),
            "the public inputs of the witness generator differ from those of this program: the key and the generator do not \
             belong together, or are for another depth or another version of Semaphore"
        );
        Ok(witness)
    }

    /// Returns the number of public inputs, including the constant one.
    pub fn input_count(&self) -> usize {
        self.constraints.num_instance_variables
    }

    /// Returns whether the stock verifier accepts the proof.
    ///
    /// # Errors
    /// If the number of public inputs does not match the key.
    pub fn verify(&self, witness: &Witness, proof: &Proof<Bn254>) -> Result<bool> {
        Groth16::<Bn254>::verify_proof(&self.verifying_key, proof, &witness.public)
            .context("the verifier failed")
    }
}

/// Reads a proving key and the matrices of its circuit in the format of `ark-zkey`: both as arkworks serializes them.
fn read_key(mut bytes: &[u8]) -> Result<(ProvingKey<Bn254>, ConstraintMatrices<Fr>), SerializationError> {
    fn read<T: CanonicalDeserialize>(bytes: &mut &[u8]) -> Result<T, SerializationError> {
        T::deserialize_compressed_unchecked(bytes)
    }
    let key = read(&mut bytes)?;
    let [num_instance_variables, num_witness_variables, num_constraints] = read(&mut bytes)?;
    let [a_num_non_zero, b_num_non_zero, c_num_non_zero] = read(&mut bytes)?;
    let constraints = ConstraintMatrices {
        num_instance_variables,
        num_witness_variables,
        num_constraints,
        a_num_non_zero,
        b_num_non_zero,
        c_num_non_zero,
        matrices: read(&mut bytes)?,
    };
    Ok((key, constraints))
}

/// Returns the root of a tree that contains only its leftmost leaf, and the siblings on the path of this leaf. Each sibling is
/// the root of an empty subtree.
fn single_leaf_tree(leaf: U256, depth: usize) -> (U256, Vec<U256>) {
    let (mut node, mut empty, mut siblings) = (leaf, U256::ZERO, Vec::with_capacity(depth));
    for _ in 0..depth {
        siblings.push(empty);
        node = hash2(node, empty);
        empty = hash2(empty, empty);
    }
    (node, siblings)
}

fn to_field(value: U256) -> Fr {
    Fr::from_le_bytes_mod_order(&value.to_le_bytes::<32>())
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| cannot("read", path))
}
