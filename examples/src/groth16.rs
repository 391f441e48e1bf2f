//! A Groth16 prover for a real circuit. The caller computes its G1 multi-scalar multiplications (MSMs), for example on a card.
//!
//! In the Semaphore circuit, a member of a group sends a signal once without revealing its identity. The group is a Merkle tree.
//! The proving key and the witness generator are those of the package `semaphore-rs`.
//!
//! The caller computes four MSMs: A, B1, L and H. Their points belong to the key and never change; only the scalars are new in each
//! proof. The scalars of A and B1 are the whole witness, and those of L are its private part. The scalars of H are computed from
//! the witness by a few Fourier transforms. H therefore comes last, and its scalars are computed while the other MSMs run.

use anyhow::{Context, Result, anyhow, bail, ensure};
use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Projective};
use ark_ec::{CurveGroup, VariableBaseMSM};
use ark_ff::{PrimeField, UniformRand};
use ark_groth16::{Groth16, Proof, ProvingKey, prepare_verifying_key, r1cs_to_qap::R1CSToQAP};
use ark_poly::GeneralEvaluationDomain;
use ruint::aliases::U256;
use semaphore_rs_ark_circom::{CircomReduction, ConstraintMatrices};
use semaphore_rs_poseidon::poseidon::{hash1, hash2};
use semaphore_rs_witness::Graph;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Instant;
use std::{env, fs, panic, thread};

/// The package that contains the keys and witness generators.
const PACKAGE: &str = "semaphore-rs";

/// The tree depths for which the package has a key.
pub const DEPTHS: [usize; 3] = [16, 20, 30];

/// One of the MSMs, named after its part of the proving key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// `a_query`; its scalars are the whole witness.
    A,
    /// `b_g1_query`; its scalars are the whole witness. A third of its points are the point at infinity.
    B1,
    /// `l_query`; its scalars are the private part of the witness.
    L,
    /// `h_query`; its scalars are the coefficients of the quotient polynomial, one for each point of the domain.
    H,
}

impl Query {
    /// All MSMs, in the order in which their scalars become available.
    pub const ALL: [Self; 4] = [Self::A, Self::B1, Self::L, Self::H];
}

/// A circuit and its proving key.
pub struct Setup {
    /// Depth of the group's tree, which has 2^depth members.
    pub depth: usize,
    pub key: ProvingKey<Bn254>,
    pub constraints: ConstraintMatrices<Fr>,
    graph: Graph,
}

/// The values of all wires of the circuit.
pub struct Witness {
    /// The constant one, the public inputs, then the private values.
    pub assignment: Vec<Fr>,
    /// The public inputs: root of the tree, hash of the nullifier, signal, topic.
    public: [Fr; 4],
}

/// A proof, and the time of the CPU's part of it.
pub struct Proved {
    pub proof: Proof<Bn254>,
    /// Seconds for computing the scalars of H.
    pub quotient_seconds: f64,
    /// Seconds for computing the MSM in G2.
    pub g2_seconds: f64,
}

impl Setup {
    /// Reads the key and the witness generator for groups of 2^`depth` members. `depth` must be one of [`DEPTHS`].
    ///
    /// # Errors
    /// If the package or its files are missing or damaged.
    pub fn read(depth: usize) -> Result<Self> {
        let package = package_dir()?;
        let key = read_file(&package.join(format!("assets/{depth}/semaphore.arkzkey")))?;
        let graph = read_file(&package.join(format!("graphs/{depth}/graph.bin")))?;
        let (key, constraints) =
            semaphore_rs_ark_zkey::read_arkzkey_from_bytes(&key).map_err(|e| damaged("proving key", &e))?;
        let graph = semaphore_rs_witness::init_graph(&graph).map_err(|e| damaged("witness generator", &e))?;
        Ok(Self { depth, key, constraints, graph })
    }

    /// Returns the points of an MSM.
    pub fn points(&self, query: Query) -> &[G1Affine] {
        match query {
            Query::A => &self.key.a_query,
            Query::B1 => &self.key.b_g1_query,
            Query::L => &self.key.l_query,
            Query::H => &self.key.h_query,
        }
    }

    /// Computes the witness for a group whose only member sends `signal`.
    ///
    /// # Errors
    /// If the generator fails, or its public inputs differ from those computed here.
    pub fn witness(&self, signal: u64) -> Result<Witness> {
        let [trapdoor, nullifier, topic, signal] = [11, 22, 2026, signal].map(U256::from);
        let commitment = hash1(hash2(nullifier, trapdoor));
        let (root, siblings) = single_leaf_tree(commitment, self.depth);
        let inputs = HashMap::from(
            [
                ("identityTrapdoor", vec![trapdoor]),
                ("identityNullifier", vec![nullifier]),
                ("treeSiblings", siblings),
                ("treePathIndices", vec![U256::ZERO; self.depth]),
                ("externalNullifier", vec![topic]),
                ("signalHash", vec![signal]),
            ]
            .map(|(name, values)| (name.to_owned(), values)),
        );
        let values = semaphore_rs_witness::calculate_witness(inputs, &self.graph)
            .map_err(|error| anyhow!("the witness generator failed: {error}"))?;
        let witness = Witness {
            assignment: values.into_iter().map(field).collect(),
            public: [root, hash2(topic, nullifier), signal, topic].map(field),
        };
        ensure!(
            witness.assignment.get(1..self.inputs()) == Some(&witness.public),
            "the public inputs of the witness generator differ from those of this program: the key and the generator are not \
             from the version of {PACKAGE} that this example requires"
        );
        Ok(witness)
    }

    /// Returns the number of public inputs, including the constant one.
    fn inputs(&self) -> usize {
        self.constraints.num_instance_variables
    }

    /// Computes the scalars of H.
    fn quotient(&self, witness: &Witness) -> Result<Vec<Fr>> {
        // Circom's keys contain the H query for the odd coset. With the usual reduction, no verifier would accept the proof.
        CircomReduction::witness_map_from_matrices::<Fr, GeneralEvaluationDomain<Fr>>(
            &self.constraints.matrices,
            self.inputs(),
            self.constraints.num_constraints,
            &witness.assignment,
        )
        .context("the witness does not fit the circuit")
    }

    /// Returns whether the verifier of arkworks accepts the proof.
    ///
    /// # Errors
    /// If the public inputs do not fit the key.
    pub fn verify(&self, witness: &Witness, proof: &Proof<Bn254>) -> Result<bool> {
        let key = prepare_verifying_key(&self.key.vk);
        Groth16::<Bn254>::verify_proof(&key, proof, &witness.public).context("the verifier failed")
    }
}

/// Creates a proof with the blinding factors `r` and `s`.
///
/// `msm` computes the MSM of [`Setup::points`] and the given scalars. It is called on a separate thread, once for each of
/// [`Query::ALL`], in that order. Meanwhile this thread computes the scalars of H and the MSM in G2.
///
/// # Errors
/// If `msm` fails, or the witness does not fit the circuit.
pub fn prove(
    setup: &Setup,
    witness: &Witness,
    [r, s]: [Fr; 2],
    msm: &mut (impl FnMut(Query, &[Fr]) -> Result<G1Projective> + Send),
) -> Result<Proved> {
    let (key, whole) = (&setup.key, witness.assignment.as_slice());
    let private = whole.get(setup.inputs()..).context("the witness is shorter than its public inputs")?;
    thread::scope(|scope| {
        let (send_quotient, quotient) = mpsc::channel();
        let sums = scope.spawn(move || -> Result<[G1Projective; 4]> {
            let a = msm(Query::A, whole)?;
            let b1 = msm(Query::B1, whole)?;
            let l = msm(Query::L, private)?;
            let quotient: Vec<Fr> = quotient.recv().context("the scalars of H could not be computed")?;
            Ok([a, b1, l, msm(Query::H, &quotient)?])
        });
        let start = Instant::now();
        let scalars = setup.quotient(witness)?;
        let quotient_seconds = start.elapsed().as_secs_f64();
        // Sending fails only if an MSM failed. Its error is reported below.
        let _ = send_quotient.send(scalars);
        let start = Instant::now();
        let b2 = G2Projective::msm_unchecked(&key.b_g2_query, whole);
        let g2_seconds = start.elapsed().as_secs_f64();
        let [a, b1, l, h] = sums.join().unwrap_or_else(|panic| panic::resume_unwind(panic))?;

        // The witness starts with the constant one, so the MSMs already include the constant terms of the queries.
        let a = a + key.vk.alpha_g1 + key.delta_g1 * r;
        let b1 = b1 + key.beta_g1 + key.delta_g1 * s;
        let b2 = b2 + key.vk.beta_g2 + key.vk.delta_g2 * s;
        let c = h + l + a * s + b1 * r - key.delta_g1 * (r * s);
        let proof = Proof { a: a.into_affine(), b: b2.into_affine(), c: c.into_affine() };
        Ok(Proved { proof, quotient_seconds, g2_seconds })
    })
}

/// Returns fresh random blinding factors.
pub fn blinding() -> [Fr; 2] {
    let mut rng = rand_08::thread_rng();
    [Fr::rand(&mut rng), Fr::rand(&mut rng)]
}

/// Returns the root of a tree whose only leaf is the leftmost one, and the siblings on the leaf's path. Each sibling is the root of
/// an empty subtree.
fn single_leaf_tree(leaf: U256, depth: usize) -> (U256, Vec<U256>) {
    let (mut node, mut empty, mut siblings) = (leaf, U256::ZERO, Vec::with_capacity(depth));
    for _ in 0..depth {
        siblings.push(empty);
        node = hash2(node, empty);
        empty = hash2(empty, empty);
    }
    (node, siblings)
}

fn field(value: U256) -> Fr {
    Fr::from_le_bytes_mod_order(&value.to_le_bytes::<32>())
}

/// Returns the directory into which cargo unpacked the package. The package is a dependency for a target that never applies, so
/// cargo downloads it but never compiles it.
fn package_dir() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let output = Command::new(&cargo)
        .args(["metadata", "--format-version=1", "--manifest-path", manifest])
        .output()
        .with_context(|| {
            format!(
                "cannot run {}: cargo locates the package that contains the proving key; start this example with `cargo run`",
                cargo.display()
            )
        })?;
    if !output.status.success() {
        bail!(
            "cargo cannot locate {PACKAGE}, which contains the proving key: run `cargo fetch` once with network access\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("`cargo metadata` did not print JSON")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages
        .filter(|package| package["name"] == PACKAGE)
        .find_map(|package| package["manifest_path"].as_str())
        .with_context(|| format!("{PACKAGE} is not a dependency in {manifest}: restore that dependency"))?;
    Ok(Path::new(manifest).with_file_name(""))
}

fn damaged(what: &str, error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow!(
        "the {what} is damaged ({error}): remove the package {PACKAGE} from cargo's registry cache and run `cargo fetch`"
    )
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| {
        format!(
            "cannot read {}, a file of the package {PACKAGE}: remove the package from cargo's registry cache and run `cargo \
             fetch` with network access",
            path.display()
        )
    })
}
