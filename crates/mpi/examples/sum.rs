//! One sum over the cards of all ranks. Every rank has one emulated card.
//!
//!     cargo build --package xdma-mpi --features mpi --example sum
//!     mpirun -n 2 target/debug/examples/sum
//!     target/debug/examples/sum                      # a single rank, without MPI
//!
//! Output:
//!
//! ```text
//! the sum over 2 ranks with emulated cards is right; reduced in 0.08 ms
//! ```

use ark_bn254::{Fr, G1Affine};
use ark_ec::AffineRepr;
use std::process::ExitCode;
use std::sync::Arc;
use xdma::card::CardOptions;
use xdma_cards::{CardSource, Cards, CardsOptions};
use xdma_emulated_card::{emulator::CardFile, start_like};
use xdma_mpi::{Member, Options, run};

fn main() -> ExitCode {
    run(Options::default(), |member| {
        // A real card: CardSource::named("0000:3b:00.0".parse()?, CardOptions::default())
        let card = CardSource::with("emulated", || start_like(CardFile::f1(), CardOptions::default()));
        let cards = Arc::new(Cards::open([card], CardsOptions::default())?);
        let root = match member {
            Member::Worker(worker) => {
                worker.serve(&cards, []);
                return Ok(());
            }
            Member::Root(root) => root,
        };
        let mut ranks = root.open(cards);
        let bases = ranks.register(vec![G1Affine::generator(); 1000])?; // once
        let (sum, report) = ranks.sum(&bases, &[Fr::from(2); 1000])?;
        if sum != G1Affine::generator() * Fr::from(2000) {
            return Err("the sum is wrong".into());
        }
        let milliseconds = report.reduce_seconds * 1e3;
        println!(
            "the sum over {} ranks with emulated cards is right; reduced in {milliseconds:.2} ms",
            ranks.size()
        );
        Ok(())
    })
}
