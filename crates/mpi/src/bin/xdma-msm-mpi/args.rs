//! The command line.

use crate::fault::{Fault, RankFault};
use clap::Parser;
use xdma_emulated_card::CardChoice;

/// Computes multi-scalar multiplications over the cards of all ranks, and compares them with halo2curves.
///
/// Start it with `mpirun`, Slurm's `srun`, or Kubernetes' MPI operator. Each process is a rank with its own cards. Without a
/// launcher, the process is a single rank.
#[derive(Parser)]
#[command(name = "xdma-msm-mpi")]
pub struct Args {
    /// Number of emulated cards for each rank.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub cards: u16,
    /// A card for each rank, instead of emulated cards of type f1; repeat the option for more cards. A PCI address, unix:PATH
    /// of a vfio-user socket, or an emulated card. The same names are used on all hosts. To use different cards for each rank:
    /// `mpirun -n 1 PROGRAM --card A : -n 1 PROGRAM --card B`.
    #[arg(long, value_name = "BDF|unix:PATH|NAME|FILE.toml", conflicts_with = "cards")]
    pub card: Vec<CardChoice>,
    /// Number of pairs of a sum, such as 65536 or 2^16, at most 2^26.
    #[arg(long, value_name = "N", default_value = "2^16", value_parser = pairs)]
    pub pairs: usize,
    /// Number of sums.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub jobs: u32,
    /// Check every part by a second MSM over tags of the points. Without this option, the host of a card does not detect a wrong
    /// result; only the comparison at the end does.
    #[arg(long)]
    pub check: bool,
    /// Do not compare the sums with halo2curves. The comparison takes much CPU time for many pairs.
    #[arg(long)]
    pub no_compare: bool,
    /// Each rank generates its own copy of the points, as if it read them from a file. Only digests are compared.
    #[arg(long)]
    pub own_bases: bool,
    /// Seed of the points and scalars.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A rank's part is divided over its cards only if each card gets at least this many pairs.
    #[arg(long, value_name = "N", default_value = "2^15", value_parser = pairs)]
    pub min_part: usize,
    /// Time limit in seconds for each step of a sum. If a rank exceeds it, the job ends and the error names the rank.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    pub deadline: f64,
    /// Time limit in seconds for starting all ranks and for registering the bases.
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0, value_parser = seconds)]
    pub load_deadline: f64,
    /// Time limit in seconds for a rank's wait for the root's next order. Between orders, the root compares the sum with the
    /// CPU's.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600.0, value_parser = seconds)]
    pub idle_limit: f64,
    /// The part of a card's time limit that does not depend on the number of pairs, in seconds. A card that exceeds its limit
    /// is taken out of service.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    pub card_margin: f64,
    /// For tests and demonstrations: a rank and the fault to inject there. `kill`, `stop` and `thread-panic` hit the rank while
    /// its cards compute. `panic`, `return` and `exit` hit it before it serves the root. `card-gone`, `card-hung` and
    /// `card-wrong` hit its last card, which must be an emulated card of `--cards`.
    #[arg(long, value_name = "RANK:FAULT")]
    pub fault: Option<RankFault>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// Returns the fault of a rank.
    pub fn fault_of(&self, rank: usize) -> Option<Fault> {
        self.fault.filter(|fault| fault.rank == rank).map(|fault| fault.fault)
    }
}

fn pairs(text: &str) -> Result<usize, String> {
    let value = match text.split_once('^') {
        Some((base, exponent)) => {
            base.parse::<usize>().ok().zip(exponent.parse().ok()).and_then(|(b, e)| b.checked_pow(e))
        }
        None => text.parse().ok(),
    };
    match value {
        Some(value) if (1..=1 << 26).contains(&value) => Ok(value),
        _ => Err("expected a number of pairs such as 65536 or 2^16, from 1 to 2^26".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 86_400.0 => Ok(value),
        _ => Err("expected seconds, above 0 and at most 86400".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_pairs() {
        assert_eq!(pairs("2^16"), Ok(65536));
        assert_eq!(pairs("1000"), Ok(1000));
        for bad in ["0", "2^27", "2^", "^3", "9^99", "x"] {
            assert!(pairs(bad).is_err(), "{bad}");
        }
    }
}
