//! Polynomial commitments by the published `ark-poly-commit`, with MSMs on the card.

use crate::common::Fixture;
use ark_bn254::{Bn254, Fr};
use ark_crypto_primitives::sponge::CryptographicSponge;
use ark_crypto_primitives::sponge::poseidon::{PoseidonConfig, PoseidonSponge};
use ark_ff::{Field, UniformRand};
use ark_poly::univariate::DensePolynomial;
use ark_poly::{DenseMultilinearExtension, DenseUVPolynomial, MultilinearExtension, Polynomial};
use ark_poly_commit::hyrax::HyraxPC;
use ark_poly_commit::ipa_pc::InnerProductArgPC;
use ark_poly_commit::kzg10::{KZG10, Powers};
use ark_poly_commit::marlin_pc::MarlinKZG10;
use ark_poly_commit::sonic_pc::SonicKZG10;
use ark_poly_commit::{LabeledPolynomial, PolynomialCommitment};
use ark_serialize::CanonicalSerialize;
use ark_std::rand::{SeedableRng, rngs::StdRng};
use blake2::Blake2s256;
use std::borrow::Cow;
use xdma_arkworks::curve::G1Affine;
use xdma_arkworks::{CardBn254, MsmKey, OnCard};

type Univariate = DensePolynomial<Fr>;

const DEGREE: usize = 255;

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

/// A sponge with small, insecure parameters.
fn sponge() -> PoseidonSponge<Fr> {
    let mut rng = rng();
    let mut row = || (0..3).map(|_| Fr::rand(&mut rng)).collect::<Vec<_>>();
    let mds = (0..3).map(|_| row()).collect();
    let ark = (0..39).map(|_| row()).collect();
    PoseidonSponge::new(&PoseidonConfig::new(8, 31, 17, mds, ark, 2, 1))
}

fn bytes(value: &impl CanonicalSerialize) -> Vec<u8> {
    let mut bytes = vec![];
    value.serialize_compressed(&mut bytes).unwrap();
    bytes
}

/// Commits to polynomials, opens them at a point, and checks that the verifier accepts the proof there and rejects it at another
/// point. Returns the bytes of the commitments and of the proof, and the number of MSMs on the card.
fn commit_and_open<P, S>(
    fixture: &Fixture,
    key: S::CommitterKey,
    verifier: &S::VerifierKey,
    polynomials: &[LabeledPolynomial<Fr, P>],
    [point, other]: [&P::Point; 2],
) -> (Vec<u8>, u64)
where
    P: Polynomial<Fr>,
    S: PolynomialCommitment<Fr, P>,
    S::CommitterKey: MsmKey,
    S::Proof: CanonicalSerialize,
{
    let key = OnCard::new(&fixture.context, key).map_err(|error| error.source).unwrap();
    let (commitments, states) = S::commit(&key, polynomials, Some(&mut rng())).unwrap();
    let proof =
        S::open(&key, polynomials, &commitments, point, &mut sponge(), &states, Some(&mut rng())).unwrap();
    let values: Vec<Fr> = polynomials.iter().map(|polynomial| polynomial.evaluate(point)).collect();
    let check = |point| {
        S::check(verifier, &commitments, point, values.clone(), &proof, &mut sponge(), Some(&mut rng()))
    };
    assert!(check(point).unwrap());
    assert!(!check(other).unwrap_or(false));
    let commitments: Vec<_> = commitments.iter().map(|labeled| labeled.commitment().clone()).collect();
    ([bytes(&commitments), bytes(&proof)].concat(), fixture.context.stats().on_card)
}

fn polynomials(hiding: Option<usize>, bound: Option<usize>) -> Vec<LabeledPolynomial<Fr, Univariate>> {
    let mut rng = rng();
    let mut polynomial = |label: &str, bound| {
        LabeledPolynomial::new(label.into(), Univariate::rand(DEGREE, &mut rng), bound, hiding)
    };
    vec![polynomial("a", None), polynomial("b", bound)]
}

/// Runs a scheme with and without the card, compares the bytes, and returns the number of MSMs on the card.
macro_rules! assert_matches_stock {
    ($scheme:ident, $polynomials:expr, $hiding:expr, $bounds:expr) => {{
        type Card = $scheme<CardBn254, Univariate>;
        type Stock = $scheme<Bn254, Univariate>;
        let (fixture, point) = (Fixture::new(), Fr::from(12345u64));
        let parameters = Card::setup(DEGREE, None, &mut rng()).unwrap();
        let (key, verifier) = Card::trim(&parameters, DEGREE, $hiding, $bounds).unwrap();
        let polynomials = $polynomials;
        let (ours, msms) =
            commit_and_open::<_, Card>(&fixture, key, &verifier, &polynomials, [&point, &Fr::ONE]);
        let parameters = Stock::setup(DEGREE, None, &mut rng()).unwrap();
        let (key, _) = Stock::trim(&parameters, DEGREE, $hiding, $bounds).unwrap();
        let (commitments, states) = Stock::commit(&key, &polynomials, Some(&mut rng())).unwrap();
        let proof =
            Stock::open(&key, &polynomials, &commitments, &point, &mut sponge(), &states, Some(&mut rng()))
                .unwrap();
        let commitments: Vec<_> = commitments.iter().map(|labeled| labeled.commitment().clone()).collect();
        assert!(ours == [bytes(&commitments), bytes(&proof)].concat());
        msms
    }};
}

#[test]
fn marlin_kzg10_runs_on_the_card() {
    let msms = assert_matches_stock!(MarlinKZG10, polynomials(Some(1), Some(DEGREE)), 1, Some(&[DEGREE]));
    assert!(msms >= 4, "{msms}");
}

#[test]
fn sonic_kzg10_runs_on_the_card() {
    let msms = assert_matches_stock!(SonicKZG10, polynomials(Some(1), Some(DEGREE)), 1, Some(&[DEGREE]));
    assert!(msms >= 3, "{msms}");
}

#[test]
fn plain_kzg10_runs_on_the_card() {
    let fixture = Fixture::new();
    let parameters = KZG10::<CardBn254, Univariate>::setup(DEGREE, false, &mut rng()).unwrap();
    let gamma = parameters.powers_of_gamma_g.values().copied().collect::<Vec<_>>();
    let powers = Powers {
        powers_of_g: Cow::Owned(parameters.powers_of_g.clone()),
        powers_of_gamma_g: Cow::Owned(gamma),
    };
    let powers = OnCard::new(&fixture.context, powers).map_err(|error| error.source).unwrap();
    // The two lowest coefficients are zero, so the MSM starts at the third point.
    let mut coefficients = Univariate::rand(DEGREE, &mut rng()).coeffs;
    coefficients[..2].fill(Fr::from(0));
    let polynomial = Univariate::from_coefficients_vec(coefficients);
    let (commitment, _) = KZG10::commit(&powers, &polynomial, None, None).unwrap();
    assert_eq!(fixture.context.stats().pairs_on_card, DEGREE as u64 - 1);
    let stock = KZG10::<Bn254, Univariate>::setup(DEGREE, false, &mut rng()).unwrap();
    let expected = ark_poly_commit::kzg10::Powers {
        powers_of_g: Cow::Owned(stock.powers_of_g.clone()),
        powers_of_gamma_g: Cow::Owned(vec![]),
    };
    let (expected, _) = KZG10::<Bn254, Univariate>::commit(&expected, &polynomial, None, None).unwrap();
    assert_eq!(bytes(&commitment), bytes(&expected));
}

/// Hyrax commits to rows in parallel, so during one MSM, rayon can run another one on the same thread.
#[test]
fn hyrax_with_nested_msms_runs_on_the_card() {
    type Scheme = HyraxPC<G1Affine, DenseMultilinearExtension<Fr>>;
    const VARIABLES: usize = 10;
    let fixture = Fixture::new();
    let parameters = Scheme::setup(1, Some(VARIABLES), &mut rng()).unwrap();
    let (key, verifier) = Scheme::trim(&parameters, 1, 1, None).unwrap();
    let polynomial = DenseMultilinearExtension::rand(VARIABLES, &mut rng());
    let polynomial = [LabeledPolynomial::new("p".into(), polynomial, None, None)];
    let point: Vec<Fr> = (1..=VARIABLES as u64).map(Fr::from).collect();
    let other = vec![Fr::from(3u64); VARIABLES];
    let (_, msms) = commit_and_open::<_, Scheme>(&fixture, key, &verifier, &polynomial, [&point, &other]);
    assert!(msms >= 32, "{msms} {:?}", fixture.context.stats());
}

#[test]
fn the_inner_product_argument_runs_on_the_card() {
    type Scheme = InnerProductArgPC<G1Affine, Blake2s256, Univariate>;
    let fixture = Fixture::new();
    let parameters = Scheme::setup(DEGREE, None, &mut rng()).unwrap();
    let (key, verifier) = Scheme::trim(&parameters, DEGREE, 1, None).unwrap();
    let polynomials = polynomials(None, None);
    let (_, msms) =
        commit_and_open::<_, Scheme>(&fixture, key, &verifier, &polynomials, [&Fr::from(5u64), &Fr::ONE]);
    assert!(msms >= 2, "{msms}");
}
