//! Runs the small examples, on cards that they emulate and on a card behind a socket, and tests the shared code of the other
//! examples.

mod common;

/// Includes an example as a module. Its `main` is not used. Examples with provers take long to compile, so
/// they run as programs.
macro_rules! example {
    ($name:ident, $path:literal) => {
        #[allow(dead_code)]
        #[path = $path]
        mod $name;
    };
}
example!(async_msm, "../async_msm/main.rs");
example!(loopback, "../loopback/main.rs");
example!(multi_channel, "../multi_channel/main.rs");
example!(own_memory, "../own_memory/main.rs");
example!(registers, "../registers/main.rs");
example!(stream_receive, "../stream_receive/main.rs");
example!(user_interrupt, "../user_interrupt/main.rs");

use ark_bn254::{Bn254, Fr, G1Projective};
use ark_ec::{AffineRepr, CurveGroup, VariableBaseMSM};
use ark_groth16::Groth16;
use clap::Parser;
use common::report;
use semaphore_rs_ark_circom::CircomReduction;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use xdma::regs::Direction;
use xdma_emulator::faults::Kind;
use xdma_emulator::logic::{Design, MsmModelOptions};
use xdma_emulator::{EmulatedCard, EmulatorOptions};
use xdma_examples::kernel_driver::{KernelChannel, KernelCost, msm_feed};
use xdma_examples::semaphore::CircuitArgs;
use xdma_examples::{data, human};

/// Runs an example with command-line arguments, on each profile of emulated card and on a card behind a socket.
macro_rules! runs {
    ($name:ident, $emulated:expr, $options:expr) => {{
        let card: EmulatedCard = $emulated;
        let name = format!("unix:{}", card.socket().display());
        for card in ["f1", "alveo", &name] {
            let words = [stringify!($name), "--card", card].into_iter().chain($options);
            $name::run(&$name::Args::try_parse_from(words).unwrap()).unwrap();
        }
        assert_eq!(card.violations(), []);
    }};
}

fn with_msm() -> EmulatedCard {
    EmulatedCard::start(EmulatorOptions::default(), Design::Msm(MsmModelOptions::default()).build()).unwrap()
}

fn with_streams() -> EmulatedCard {
    EmulatedCard::start(EmulatorOptions::default().with_streams(), Design::Loopback.build()).unwrap()
}

#[test]
fn loopback_runs() {
    runs!(loopback, with_msm(), ["--bytes", "100001", "--channel", "1"]);
}

#[test]
fn registers_runs() {
    runs!(registers, with_msm(), ["--label", "77"]);
}

#[test]
fn own_memory_runs() {
    runs!(own_memory, with_msm(), ["--elements", "50001"]);
}

#[test]
fn multi_channel_runs() {
    runs!(multi_channel, with_msm(), ["--channels", "4", "--rounds", "3"]);
}

#[test]
fn user_interrupt_runs() {
    runs!(user_interrupt, with_msm(), []);
}

#[test]
fn async_msm_runs() {
    runs!(async_msm, with_msm(), ["--pairs", "1000"]);
}

#[test]
fn stream_receive_runs() {
    runs!(stream_receive, with_streams(), ["--packets", "500", "--buffer", "1024"]);
}

/// The other thread times out as a consequence. It must not delay the program or hide the cause.
#[test]
fn stream_receive_reports_a_failure_of_either_end_immediately() {
    let run = |words: &[&str]| {
        let words = ["stream_receive"].iter().chain(words);
        let begin = Instant::now();
        let error = stream_receive::run(&stream_receive::Args::try_parse_from(words).unwrap()).unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}: {error:#}", begin.elapsed());
        format!("{error:#}")
    };
    let error = run(&["--card", "f1", "--buffer", "100"]);
    assert!(error.contains("100"), "{error}");
    let causes = [
        (Direction::H2C, ["was not sent"].as_slice()),
        (Direction::C2H, ["was not received", "was not posted again"].as_slice()),
    ];
    for (direction, causes) in causes {
        let card = with_streams();
        let name = format!("unix:{}", card.socket().display());
        let error = std::thread::scope(|scope| {
            // Inject the fault while packets are being transferred.
            scope.spawn(|| {
                std::thread::sleep(Duration::from_secs(1));
                card.inject(Kind::BadMagic.on(direction, 0)).unwrap();
            });
            run(&["--card", &name, "--packets", "100000000"])
        });
        assert!(
            causes.iter().any(|cause| error.contains(cause)) && !error.contains("not finished within"),
            "{error}"
        );
    }
}

#[test]
fn commit_runs() {
    let emulated = with_msm();
    let name = format!("unix:{}", emulated.socket().display());
    for card in ["f1", "alveo", &name] {
        common::run("commit", &format!("--degree 1000 --card {card}")).unwrap();
    }
    assert_eq!(emulated.violations(), []);
}

#[test]
fn prove_batch_verifies_its_proofs() {
    let report = report("prove_batch", "--depth 16 --proofs 3 --workers 3").unwrap();
    assert_eq!(
        [&report["verified"], &report["msms_on_card"], &report["msms_on_cpu"], &report["msms_started_early"]],
        [3, 12, 0, 9]
    );
    let [median, max] = ["p50", "max"].map(|name| report["latency"][name].as_f64().unwrap());
    assert!(median > 0.0 && median <= max);
}

#[test]
fn prove_batch_uses_several_cards() {
    let report = report("prove_batch", "--depth 16 --proofs 4 --workers 3 --cards 2").unwrap();
    assert_eq!([&report["verified"], &report["msms_on_card"], &report["msms_on_cpu"]], [4, 16, 0]);
    // The MSMs of this circuit are too small to be divided.
    let parts: Vec<_> =
        report["cards"].as_array().unwrap().iter().map(|card| card["parts"].as_u64().unwrap()).collect();
    assert!(parts.iter().sum::<u64>() == 16 && parts.iter().all(|parts| *parts > 0), "{parts:?}");
}

fn circuit(words: &[&str]) -> anyhow::Result<CircuitArgs> {
    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        circuit: CircuitArgs,
    }
    Ok(Command::try_parse_from(["test"].iter().chain(words))?.circuit)
}

#[test]
fn keys_are_embedded_or_read_from_files() {
    let (embedded, key) = circuit(&["--depth", "16"]).unwrap().read().unwrap();
    let witness = embedded.witness(1).unwrap();
    assert_eq!(witness.assignment.len(), key.a_query.len());
    let error = circuit(&["--depth", "17"]).unwrap().read().err().unwrap().to_string();
    assert!(error.contains("16, 20 or 30"), "{error}");
    assert!(circuit(&["--key", "key"]).is_err(), "--graph is missing");
    let error = |words: &[&str]| format!("{:#}", circuit(words).unwrap().read().err().unwrap());
    assert!(error(&["--key", "/nowhere", "--graph", "/nowhere"]).contains("cannot read /nowhere"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"no key").unwrap();
    let name = file.to_str().unwrap();
    assert!(error(&["--key", name, "--graph", name]).contains("the proving key is corrupt"));
    let key = concat!(env!("SEMAPHORE_DIR"), "/assets/16/semaphore.arkzkey");
    assert!(error(&["--key", key, "--graph", name]).contains("the witness generator is corrupt"));
    let graph = concat!(env!("SEMAPHORE_DIR"), "/graphs/16/graph.bin");
    let (from_files, _) =
        circuit(&["--depth", "16", "--key", key, "--graph", graph]).unwrap().read().unwrap();
    assert_eq!(from_files.witness(1).unwrap().assignment, witness.assignment);
    let (deeper, _) = circuit(&["--depth", "17", "--key", key, "--graph", graph]).unwrap().read().unwrap();
    let error = format!("{:#}", deeper.witness(1).err().unwrap());
    assert!(error.contains("for another depth") && error.contains("treeSiblings has 16 values"), "{error}");
}

#[test]
fn a_proof_for_another_signal_is_rejected() {
    let (circuit, key) = circuit(&["--depth", "16"]).unwrap().read().unwrap();
    let (witness, other) = (circuit.witness(1).unwrap(), circuit.witness(2).unwrap());
    let proof = Groth16::<Bn254, CircomReduction>::create_proof_with_reduction_and_matrices(
        &key,
        Fr::from(3),
        Fr::from(4),
        &circuit.constraints.matrices,
        circuit.input_count(),
        circuit.constraints.num_constraints,
        &witness.assignment,
    );
    let proof = proof.unwrap();
    assert!(circuit.verify(&witness, &proof).unwrap());
    assert!(!circuit.verify(&other, &proof).unwrap());
}

#[test]
fn generated_points_are_distinct_and_on_the_curve() {
    let points = data::random_points(10_000, 1);
    assert!(points.iter().all(|point| point.is_on_curve() && !point.is_zero()));
    assert_eq!(points.iter().collect::<HashSet<_>>().len(), points.len());
    assert_eq!(data::random_points(10_000, 1), points);
    assert_ne!(data::random_points(1, 2), points[..1]);
    assert!(data::random_points(0, 1).is_empty());
    let scalars = data::random_scalars(100, 1);
    let sum: G1Projective = points.iter().zip(&scalars).map(|(point, scalar)| *point * scalar).sum();
    assert_eq!(data::cpu_msm(&points[..100], &scalars).unwrap(), sum.into_affine());
    assert_eq!(G1Projective::msm(&points[..100], &scalars).unwrap(), sum);
    assert!(
        data::cpu_msm(&points, &scalars).unwrap_err().to_string().contains("10000 points and 100 scalars")
    );
}

#[test]
fn files_contain_elements_in_the_cards_format() {
    let folder = tempfile::tempdir().unwrap();
    let (points, scalars) = (data::random_points(33, 3), data::random_scalars(33, 3));
    let file = folder.path().join("file");
    data::write_points(&file, &points).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 33 * 64);
    assert_eq!(data::read_points(&file).unwrap(), points);
    for montgomery in [false, true] {
        data::write_scalars(&file, &scalars, montgomery).unwrap();
        assert_eq!(data::read_scalars(&file, montgomery).unwrap(), scalars);
    }
    let error = |result: anyhow::Result<()>| format!("{:#}", result.unwrap_err());
    std::fs::write(&file, [0xff; 64]).unwrap();
    assert!(error(data::read_points(&file).map(drop)).contains("x of point 0 is not below p"));
    assert!(error(data::read_scalars(&file, false).map(drop)).contains("scalar 0 is not below r"));
    std::fs::write(&file, [0; 65]).unwrap();
    assert!(
        error(data::read_points(&file).map(drop))
            .contains("65 bytes, which is not a positive multiple of 64")
    );
    std::fs::write(&file, []).unwrap();
    assert!(data::read_scalars(&file, true).is_err());
    assert!(error(data::read_points(folder.path()).map(drop)).contains("cannot read points from"));
    let one = Fr::from(1u64);
    data::write_scalars(&file, &[one], false).unwrap();
    assert_eq!(std::fs::read(&file).unwrap()[0], 1);
    data::write_scalars(&file, &[one], true).unwrap();
    assert_eq!(std::fs::read(&file).unwrap()[..8], Fr::R.0[0].to_le_bytes());
}

/// 32 and 64 KiB, aligned and unaligned.
#[test]
fn the_kernel_driver_pins_a_page_and_creates_a_descriptor_per_4_kib() {
    for (offset, bytes, pages) in
        [(0, 32 << 10, 8), (16, 32 << 10, 9), (0, 64 << 10, 16), (4095, 64 << 10, 17)]
    {
        let cost = KernelChannel::default().write(offset, bytes);
        let expected =
            KernelCost { calls: 1, bytes: bytes as u64, pinned_pages: pages, descriptors: pages, starts: 1 };
        assert_eq!(cost, expected);
        assert_eq!((cost.mmio_interrupt(), cost.mmio_polled()), ([7, 5], [5, 2]));
    }
    // 16 MiB are 4,096 descriptors: two full rings, or three parts if the first one starts in the middle of a ring.
    let mut channel = KernelChannel::default();
    assert_eq!(channel.write(0, 16 << 20).starts, 2);
    channel.write(0, 4096);
    assert_eq!(channel.write(0, 16 << 20).starts, 3);
    // 2^20 pairs in chunks of 512 need 2,048 calls each for scalars and points.
    let cost = msm_feed(1 << 20, 512, 0);
    assert_eq!((cost.calls, cost.bytes), (4096, 96 << 20));
    assert_eq!((cost.pinned_pages, cost.descriptors), (24_576, 24_576));
    assert_eq!(msm_feed(1 << 20, 512, 64).descriptors, 24_576 + 4096);
    assert_eq!(msm_feed(1025, 1024, 0).calls, 4);
}

#[test]
fn numbers_are_formatted_for_people() {
    assert_eq!(human::count(1 << 20).to_string(), "1,048,576");
    assert_eq!(human::bytes(96 << 20).to_string(), "96.00 MiB");
    assert_eq!(human::seconds(0.0879), "87.90ms");
    assert_eq!(human::bandwidth(96 << 20, 0.01), "10.07 GB/s");
}
