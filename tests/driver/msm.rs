//! MSMs on the emulated card. The card computes them with halo2curves; the tests check the results with arkworks.

use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{AffineRepr, CurveGroup, VariableBaseMSM};
use ark_ff::{UniformRand, Zero};
use rand_08::{SeedableRng, rngs::StdRng};
use xdma::card::Card;
use xdma::channel::{ChannelOptions, Ring, Wait};
use xdma::memory::CallerMemory;
use xdma::msm::curve::arkworks as ark;
use xdma::msm::{
    DataError, Job, JobError, Msm, MsmOptions, MsmSubmitError, Output, Points, PrepareError, ScalarForm,
    Scalars,
};
use xdma::regs::msm;
use xdma_emulator::EmulatorOptions;
use xdma_emulator::logic::{self, Design, MsmModelOptions as Model};
use xdma_testkit::bench::{Bench, LIMIT};

fn bench(model: Model) -> Bench {
    Bench::new(EmulatorOptions::default(), Design::Msm(model))
}

fn random(count: usize, seed: u64) -> (Vec<G1Affine>, Vec<Fr>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let step = G1Projective::rand(&mut rng);
    let points: Vec<_> = std::iter::successors(Some(step), |p| Some(*p + step)).take(count).collect();
    (G1Projective::normalize_batch(&points), (0..count).map(|_| Fr::rand(&mut rng)).collect())
}

fn put(card: &Card, points: &[G1Affine], scalars: &[Fr], form: ScalarForm) -> (Points, Scalars) {
    let mut p = Points::allocate(card, points.len()).unwrap();
    p.fill(|bytes| ark::points_to_bytes(points, bytes)).unwrap().unwrap();
    let mut s = Scalars::allocate(card, scalars.len(), form).unwrap();
    s.fill(|bytes| match form {
        ScalarForm::Montgomery => ark::scalars_to_bytes(scalars, bytes),
        ScalarForm::Canonical => ark::scalars_to_canonical_bytes(scalars, bytes),
    })
    .unwrap()
    .unwrap();
    (p, s)
}

fn run(msm: &mut Msm, job: &Job) -> Output {
    let ticket = msm.submit(job).unwrap();
    msm.wait(ticket, LIMIT).unwrap()
}

fn point(output: &Output) -> G1Affine {
    ark::result_to_point(&output.bytes).unwrap()
}

fn cpu(points: &[G1Affine], scalars: &[Fr]) -> G1Affine {
    G1Projective::msm(points, scalars).unwrap().into_affine()
}

#[test]
fn any_number_of_pairs_in_both_forms_over_both_rings() {
    let bench = bench(Model::default());
    let card = bench.open();
    for count in [0, 1, 2, 3, 511, 512, 513, 4099] {
        let (points, scalars) = random(count, count as u64);
        let expected = cpu(&points, &scalars);
        for ring in [Ring::Chain, Ring::Credits] {
            let mut msm = Msm::open(&card, MsmOptions { ring: Some(ring), ..Default::default() }).unwrap();
            for form in [ScalarForm::Canonical, ScalarForm::Montgomery] {
                let (p, s) = put(&card, &points, &scalars, form);
                let job = msm.prepare(&p, &s).unwrap();
                assert_eq!(point(&run(&mut msm, &job)), expected, "{ring}, {count} pairs, {form:?}");
            }
        }
    }
}

#[test]
fn scalars_can_be_replaced_for_the_same_points() {
    let bench = bench(Model::default());
    let card = bench.open();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let (points, _) = random(1001, 1);
    let (p, mut s) = put(&card, &points, &vec![Fr::zero(); 1001], ScalarForm::Montgomery);
    let job = msm.prepare(&p, &s).unwrap();
    assert!(point(&run(&mut msm, &job)).is_zero(), "all scalars are zero");
    for seed in 2..5 {
        let (_, scalars) = random(1001, seed);
        s.fill(|bytes| ark::scalars_to_bytes(&scalars, bytes)).unwrap().unwrap();
        assert_eq!(point(&run(&mut msm, &job)), cpu(&points, &scalars));
    }
}

#[test]
fn registered_vectors_and_ranges_of_them_can_be_used() {
    let bench = bench(Model::default());
    let card = bench.open();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let (points, scalars) = random(777, 3);
    let mut bytes = vec![[0; 64]; 777];
    ark::points_to_bytes(&points, bytes.as_flattened_mut()).unwrap();
    let p = Points::register(&card, bytes).unwrap();
    let mut bytes = vec![[0; 32]; 777];
    ark::scalars_to_bytes(&scalars, bytes.as_flattened_mut()).unwrap();
    let registered = Scalars::register(&card, bytes, ScalarForm::Montgomery).unwrap();
    let (_, allocated) = put(&card, &[], &scalars, ScalarForm::Montgomery);
    let pinned = card.report().unwrap().caller_memory == CallerMemory::Pinned;
    for (s, in_place) in [(&registered, pinned), (&allocated, false)] {
        for range in [0..777, 0..776, 1..777, 776..777, 3..4, 5..600] {
            let job = match msm.prepare_range(&p, range.clone(), s, range.clone()) {
                // Scalars that are pinned in place cannot be split within a beat.
                Err(PrepareError::Data(DataError::SplitBeat { start })) if in_place && start % 2 == 1 => {
                    continue;
                }
                job => job.unwrap(),
            };
            assert_eq!(
                point(&run(&mut msm, &job)),
                cpu(&points[range.clone()], &scalars[range.clone()]),
                "{range:?}"
            );
        }
    }
}

#[test]
fn infinity_points_are_skipped() {
    let bench = bench(Model::default());
    let card = bench.open();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let (mut points, scalars) = random(300, 4);
    points.iter_mut().step_by(3).for_each(|p| *p = G1Affine::zero());
    let (p, s) = put(&card, &points, &scalars, ScalarForm::Canonical);
    let job = msm.prepare(&p, &s).unwrap();
    assert_eq!(point(&run(&mut msm, &job)), cpu(&points, &scalars));
    let generator = G1Affine::generator();
    let (p, s) = put(&card, &[generator, -generator], &[Fr::from(5), Fr::from(5)], ScalarForm::Canonical);
    let job = msm.prepare(&p, &s).unwrap();
    assert!(point(&run(&mut msm, &job)).is_zero());
}

#[test]
fn two_jobs_in_flight_have_their_own_labels() {
    let bench = bench(Model::default());
    let card = bench.open();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    msm.set_label(u32::MAX);
    let (points, scalars) = random(5000, 6);
    let (p, s) = put(&card, &points, &scalars, ScalarForm::Montgomery);
    let long = msm.prepare(&p, &s).unwrap();
    let short = msm.prepare_range(&p, 0..7, &s, 0..7).unwrap();
    let first = msm.submit(&long).unwrap();
    let second = msm.submit(&short).unwrap();
    assert!(matches!(msm.submit(&short), Err(MsmSubmitError::Busy { running: 2, capacity: 2 })));
    msm.wait_accepted(first, LIMIT).unwrap();
    let output = msm.wait(second, LIMIT).unwrap();
    assert_eq!((output.label, point(&output)), (0, cpu(&points[..7], &scalars[..7])));
    let output = msm.wait(first, LIMIT).unwrap();
    assert_eq!((output.label, point(&output)), (u32::MAX, cpu(&points, &scalars)));
    assert!(matches!(msm.poll(first), Err(JobError::NoResult)), "a result is returned only once");
}

#[test]
fn one_doorbell_starts_a_whole_job() {
    let bench = bench(Model { core: logic::msm::Core::Checksum, ..Model::default() });
    let card = bench.open();
    let mut msm = Msm::open(&card, MsmOptions { chunk: Some(1024), ..Default::default() }).unwrap();
    let p = Points::allocate(&card, 1 << 16).unwrap();
    let s = Scalars::allocate(&card, 1 << 16, ScalarForm::Canonical).unwrap();
    let job = msm.prepare(&p, &s).unwrap();
    assert_eq!((job.descriptors(), job.bytes()), (128, 96 << 16));
    run(&mut msm, &job);
    let stats = msm.channel().stats();
    assert_eq!((stats.doorbells, stats.descriptors, stats.bytes), (1, 128, 96 << 16));
}

#[test]
fn a_byte_corrupted_in_transit_makes_the_result_wrong() {
    let (points, scalars) = random(100, 8);
    let flip = |window, byte| logic::msm::BitFlip { window, byte, mask: 1 };
    let flips = [
        (logic::msm::Window::Scalars, 99 * 32, false),
        (logic::msm::Window::Points, 50 * 64, false),
        // Padding of the last beat of scalars is dropped.
        (logic::msm::Window::Points, 100 * 64, true),
    ];
    for (window, byte, right) in flips {
        let bench = bench(Model { flip: Some(flip(window, byte)), ..Model::default() });
        let card = bench.open();
        let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
        let (p, s) = put(&card, &points, &scalars, ScalarForm::Canonical);
        let job = msm.prepare(&p, &s).unwrap();
        let same = ark::result_to_point(&run(&mut msm, &job).bytes)
            .is_ok_and(|point| point == cpu(&points, &scalars));
        assert_eq!(same, right, "byte {byte} of {window:?}");
    }
}

#[test]
fn bad_jobs_are_refused_with_a_reason() {
    let bench = bench(Model { max_elements: 1000, ..Model::default() });
    let card = bench.open();
    for (chunk, text) in [(1026, "deadlock"), (0, "even"), (513, "even")] {
        let error = Msm::open(&card, MsmOptions { chunk: Some(chunk), ..Default::default() }).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    let msm = Msm::open(&card, MsmOptions::default()).unwrap();
    assert!(Msm::open(&card, MsmOptions::default()).unwrap_err().to_string().contains("already open"));
    let p = Points::allocate(&card, 1001).unwrap();
    let s = Scalars::allocate(&card, 1001, ScalarForm::Canonical).unwrap();
    assert!(matches!(msm.prepare(&p, &s), Err(PrepareError::TooMany { pairs: 1001, max: 1000 })));
    assert!(matches!(
        msm.prepare_range(&p, 0..5, &s, 0..6),
        Err(PrepareError::Counts { points: 5, scalars: 6 })
    ));
    assert!(matches!(
        msm.prepare_range(&p, 0..1002, &s, 0..1002),
        Err(PrepareError::Data(DataError::OutOfRange { what: "points", .. }))
    ));
    assert!(matches!(
        Points::from_bytes(&card, &[0; 65]),
        Err(DataError::Size { what: "points", len: 65, size: 64 })
    ));
    assert!(matches!(
        Scalars::from_bytes(&card, &[0; 31], ScalarForm::Canonical),
        Err(DataError::Size { .. })
    ));
}

#[test]
fn check_finds_bytes_that_are_not_points_or_scalars() {
    let bench = bench(Model::default());
    let card = bench.open();
    let (points, _) = random(3, 9);
    let mut bytes = vec![0; 192];
    ark::points_to_bytes(&points, &mut bytes).unwrap();
    let mut good = Points::from_bytes(&card, &bytes).unwrap();
    good.check().unwrap();
    bytes[64] ^= 1;
    let error = Points::from_bytes(&card, &bytes).unwrap().check().unwrap_err().to_string();
    assert!(error.contains("point 1 is not on BN254"), "{error}");
    let error = Scalars::from_bytes(&card, &[0xff; 64], ScalarForm::Canonical).unwrap().check().unwrap_err();
    assert!(error.to_string().contains("scalar 0"), "{error}");
}

#[test]
fn a_deadlock_is_explained_and_can_be_recovered_from() {
    let bench = bench(Model::default());
    let card = bench.open();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let (points, scalars) = random(64, 10);
    let big = card.allocate(4096 * 32, xdma::regs::Direction::H2C).unwrap();
    let ticket = msm.start(4096, ScalarForm::Canonical).unwrap();
    let short = std::time::Duration::from_millis(50);
    let window = xdma::regs::msm::SCALAR_WINDOW;
    let error = msm.channel().transfer(&big, 0..4096 * 32, window, short).unwrap_err();
    assert!(error.to_string().contains("busy"), "{error}");
    let error = msm.wait(ticket, short).unwrap_err();
    assert!(error.to_string().contains("This is a deadlock"), "{error}");
    msm.recover().unwrap();
    assert!(matches!(msm.poll(ticket), Err(JobError::Lost)));
    let (p, s) = put(&card, &points, &scalars, ScalarForm::Montgomery);
    let job = msm.prepare(&p, &s).unwrap();
    assert_eq!(point(&run(&mut msm, &job)), cpu(&points, &scalars), "the next job is correct");
}

/// The client is dropped while idle, and with a job in flight.
#[test]
fn dropping_a_client_disables_its_interrupts() {
    let bench = bench(Model::default());
    let card = bench.open();
    let user = card.user().unwrap();
    let channel = ChannelOptions { wait: Wait::Interrupt, ..ChannelOptions::default() };
    let points = Points::allocate(&card, 4).unwrap();
    let scalars = Scalars::allocate(&card, 4, ScalarForm::Canonical).unwrap();
    for busy in [false, true] {
        let mut msm = Msm::open(&card, MsmOptions { channel, ..MsmOptions::default() }).unwrap();
        assert_ne!(user.read(msm::IRQ_ENABLE).unwrap(), 0);
        if busy {
            let job = msm.prepare(&points, &scalars).unwrap();
            msm.submit(&job).unwrap();
        }
        drop(msm);
        assert_eq!(user.read(msm::IRQ_ENABLE).unwrap(), 0);
    }
}
