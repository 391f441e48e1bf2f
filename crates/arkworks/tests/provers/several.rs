//! Proofs whose MSMs several cards compute.

use crate::common::{Squares, emulated, options};
use ark_bn254::Bn254;
use ark_groth16::{Groth16, Proof, ProvingKey};
use ark_snark::SNARK;
use ark_std::rand::{SeedableRng, rngs::StdRng};
use std::sync::Arc;
use std::time::Duration;
use xdma::card::CardOptions;
use xdma_arkworks::groth16::{from_bn254_key, into_bn254_proof};
use xdma_arkworks::{CardBn254, Context, ContextOptions, OnCard};
use xdma_cards::CardSource;
use xdma_emulated_card::emulator::EmulatedCard;
use xdma_emulated_card::emulator::faults::{Injection, Kind};
use xdma_emulated_card::emulator::logic::MsmModelOptions;
use xdma_emulated_card::emulator::logic::msm::{BitFlip, Window};

struct Several {
    context: Context,
    emulated: Vec<Arc<EmulatedCard>>,
    stock: ProvingKey<Bn254>,
}

impl Several {
    fn new(models: Vec<MsmModelOptions>, options: ContextOptions) -> Self {
        let emulated: Vec<_> = models.into_iter().map(|model| Arc::new(emulated(model))).collect();
        let sources = emulated.iter().enumerate().map(|(index, card)| {
            let card = Arc::clone(card);
            let open = move || xdma_emulated_card::connect(&card, CardOptions::default());
            CardSource::with(format!("card {index}"), open)
        });
        let options = ContextOptions { min_part: 100, ..options };
        let context = Context::open_cards(sources.collect::<Vec<_>>(), options).unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        let stock = Groth16::<Bn254>::generate_random_parameters_with_reduction(circuit(), &mut rng).unwrap();
        Self { context, emulated, stock }
    }

    fn key(&self) -> OnCard<ProvingKey<CardBn254>> {
        OnCard::new(&self.context, from_bn254_key(self.stock.clone())).unwrap()
    }

    /// Checks that a proof equals the stock prover's, with both calls.
    fn check(&self, key: &OnCard<ProvingKey<CardBn254>>, seed: u64) {
        let mut rngs = [(); 3].map(|()| StdRng::seed_from_u64(seed));
        let expected: Proof<Bn254> = Groth16::<Bn254>::prove(&self.stock, circuit(), &mut rngs[0]).unwrap();
        assert_eq!(into_bn254_proof(key.prove(circuit(), &mut rngs[1]).unwrap()), expected);
        let proof = Groth16::<CardBn254>::prove(key, circuit(), &mut rngs[2]).unwrap();
        assert_eq!(into_bn254_proof(proof), expected);
    }
}

fn circuit() -> Squares {
    Squares::new(5, 500)
}

#[test]
fn several_cards_divide_the_msms_of_a_proof() {
    let several = Several::new(vec![MsmModelOptions::default(); 3], options());
    let key = several.key();
    several.check(&key, 7);
    let stats = several.context.stats();
    assert_eq!((stats.on_card, stats.cpu_fallbacks, stats.started_early), (8, 0, 3));
    let cards = several.context.cards().status();
    // A card that is measured as slow gets small parts, or none of a small MSM.
    assert!(cards.iter().all(|card| card.parts >= 1), "{cards:?}");
    assert!(cards.iter().map(|card| card.parts).sum::<u64>() >= 12, "{cards:?}");
    assert_eq!(cards.iter().map(|card| card.pairs).sum::<u64>(), stats.pairs_on_card);
}

#[test]
fn the_cpu_is_not_needed_while_a_card_is_left() {
    let several = Several::new(vec![MsmModelOptions::default(); 2], options());
    let key = several.key();
    several.emulated[1].inject(Injection::from(Kind::LinkDown).after(1)).unwrap();
    several.check(&key, 7);
    let stats = several.context.stats();
    assert_eq!((stats.on_card, stats.cpu_fallbacks), (8, 0));
    assert_eq!(several.context.cards().in_service(), 1);
    assert!(several.context.is_in_service() && several.context.resume().is_err());
    several.emulated[1].inject(Kind::LinkUp).unwrap();
    several.context.resume().unwrap();
    assert_eq!(several.context.cards().in_service(), 2);
    several.check(&key, 8);
    // The key is returned although the cards made their copies from it.
    assert_eq!(key.into_inner(), from_bn254_key(several.stock.clone()));
}

#[test]
fn with_checked_msms_the_card_with_wrong_results_is_named() {
    let flip = BitFlip { window: Window::Points, byte: 64 * 17, mask: 1 };
    let models = vec![MsmModelOptions::default(), MsmModelOptions { flip: Some(flip), ..Default::default() }];
    let options = ContextOptions { check_msms: true, timeout_margin: Duration::from_secs(20), ..options() };
    let several = Several::new(models, options);
    let key = several.key();
    several.check(&key, 7);
    let stats = several.context.stats();
    assert_eq!((stats.on_card, stats.cpu_fallbacks, stats.invalid_proofs), (8, 0, 0));
    let cards = several.context.cards().status();
    assert_eq!([cards[0].wrong_results, cards[1].wrong_results], [0, 1], "{cards:?}");
}
