//! Divides a sum over ranks.

/// Returns the pairs of each rank, in proportion to `weights`. The ends of the parts are even, since a beat of the cards has two
/// scalars. If no weight is positive, the first rank gets all pairs.
pub(crate) fn shares(pairs: usize, weights: &[f64]) -> Vec<usize> {
    let usable = |weight: &f64| if weight.is_finite() { weight.max(0.0) } else { 0.0 };
    let total: f64 = weights.iter().map(usable).sum();
    let last = weights.iter().rposition(|weight| usable(weight) > 0.0).unwrap_or(0);
    let (mut done, mut sum) = (0, 0.0);
    let share = |(rank, weight): (usize, &f64)| {
        sum += usable(weight);
        let end = match rank {
            _ if rank >= last => pairs,
            _ if total > 0.0 => ((pairs as f64 * sum / total / 2.0).round() as usize * 2).clamp(done, pairs),
            _ => pairs,
        };
        let share = end - done;
        done = end;
        share
    };
    weights.iter().enumerate().map(share).collect()
}

/// Returns the weights of ranks with these speeds, in pairs per second, and these numbers of cards in service. If a rank's
/// speed is not yet measured, each of its cards gets the mean weight of a card of the other ranks.
pub(crate) fn weights(ranks: &[(Option<f64>, usize)]) -> Vec<f64> {
    let measured = || ranks.iter().filter(|(speed, cards)| speed.is_some() && *cards > 0);
    let (speed, cards) =
        measured().fold((0.0, 0), |(sum, count), (speed, cards)| (sum + speed.unwrap_or(0.0), count + cards));
    let per_card = if cards > 0 { speed / cards as f64 } else { 1.0 };
    let weight = |&(speed, cards): &(Option<f64>, usize)| match (speed, cards) {
        (_, 0) => 0.0,
        (Some(speed), _) => speed,
        (None, cards) => per_card * cards as f64,
    };
    ranks.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_weights() {
        assert_eq!(shares(1 << 16, &[1.0; 4]), [1 << 14; 4]);
        assert_eq!(shares(1000, &[1.0, 3.0]), [250, 750]);
        assert_eq!(shares(1000, &[1.0, 0.0, 1.0]), [500, 0, 500]);
        assert_eq!(shares(7, &[1.0, 0.0, 0.0]), [7, 0, 0]);
        assert_eq!(shares(7, &[0.0, 0.0]), [7, 0]);
        assert_eq!(shares(0, &[1.0, 1.0]), [0, 0]);
        for pairs in [1, 2, 3, 1001, 65_537] {
            for weights in [[1.0, 2.5, 0.1], [1e-9, 1e9, 1.0], [f64::NAN, 1.0, f64::INFINITY]] {
                assert_eq!(shares(pairs, &weights).iter().sum::<usize>(), pairs, "{weights:?}");
            }
        }
    }

    #[test]
    fn weights_are_speeds_or_numbers_of_cards() {
        assert_eq!(weights(&[(None, 2), (None, 1)]), [2.0, 1.0]);
        assert_eq!(weights(&[(Some(300.0), 2), (None, 1), (Some(9.0), 0)]), [300.0, 150.0, 0.0]);
    }
}
