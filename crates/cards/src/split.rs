//! Splits a sum over cards.

/// A card that can take a part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// Seconds until the card has finished what is queued.
    pub backlog: f64,
    /// Pairs per second, above 0.
    pub speed: f64,
}

impl Candidate {
    fn finishes(&self, pairs: usize) -> f64 {
        self.backlog + pairs as f64 / self.speed
    }
}

/// Returns the number of pairs for each card, so that all cards that take a part finish at the same time. Every part has at
/// least `min` pairs, apart from rounding. A small sum therefore goes as a whole to the card that would finish it first.
pub(crate) fn split(pairs: usize, cards: &[Candidate], min: usize) -> Vec<usize> {
    let mut active: Vec<usize> = (0..cards.len()).collect();
    let mut shares = vec![0; cards.len()];
    while active.len() > 1 {
        let parts = level(pairs, cards, &active);
        let smallest = (0..active.len()).min_by(|a, b| parts[*a].total_cmp(&parts[*b])).unwrap_or(0);
        if parts[smallest] >= min.max(1) as f64 {
            round(pairs, &active, &parts, &mut shares);
            return shares;
        }
        active.swap_remove(smallest);
        active.sort_unstable();
    }
    let finishes = |card: &usize| cards[*card].finishes(pairs);
    if let Some(first) = (0..cards.len()).min_by(|a, b| finishes(a).total_cmp(&finishes(b))) {
        shares[first] = pairs;
    }
    shares
}

/// Returns the parts with which all active cards finish at the same time. A part is negative if its card finishes its backlog
/// later than that.
fn level(pairs: usize, cards: &[Candidate], active: &[usize]) -> Vec<f64> {
    let sum = |value: fn(&Candidate) -> f64| active.iter().map(|card| value(&cards[*card])).sum::<f64>();
    let end = (pairs as f64 + sum(|card| card.backlog * card.speed)) / sum(|card| card.speed);
    active.iter().map(|card| (end - cards[*card].backlog) * cards[*card].speed).collect()
}

/// Rounds the ends of the parts to even numbers of pairs, since a beat has two scalars.
fn round(pairs: usize, active: &[usize], parts: &[f64], shares: &mut [usize]) {
    let (mut done, mut end) = (0, 0.0);
    for (card, part) in active.iter().zip(parts) {
        end += part;
        let to = ((end / 2.0).round() as usize * 2).clamp(done, pairs);
        shares[*card] = to - done;
        done = to;
    }
    if let Some(last) = active.last() {
        shares[*last] += pairs - done;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards(of: &[(f64, f64)]) -> Vec<Candidate> {
        of.iter().map(|&(backlog, speed)| Candidate { backlog, speed }).collect()
    }

    #[test]
    fn equal_cards_take_equal_parts() {
        assert_eq!(split(1 << 20, &cards(&[(0.0, 1.0); 8]), 1 << 15), [1 << 17; 8]);
        assert_eq!(split(1001, &cards(&[(0.0, 1.0); 2]), 2), [500, 501]);
    }

    #[test]
    fn parts_follow_the_speeds_and_the_backlogs() {
        assert_eq!(split(1000, &cards(&[(0.0, 100.0), (0.0, 300.0)]), 2), [250, 750]);
        // The first card is 2 s late: 200 pairs that it cannot take.
        assert_eq!(split(1000, &cards(&[(2.0, 100.0), (0.0, 100.0)]), 2), [400, 600]);
        assert_eq!(split(1000, &cards(&[(20.0, 100.0), (0.0, 100.0)]), 2), [0, 1000]);
    }

    #[test]
    fn no_part_is_smaller_than_the_minimum() {
        assert_eq!(split(1000, &cards(&[(0.0, 1.0); 4]), 300), [0, 334, 332, 334]);
        assert_eq!(split(1000, &cards(&[(0.0, 1.0), (0.0, 99.0)]), 20), [0, 1000]);
        assert_eq!(split(0, &cards(&[(0.0, 1.0)]), 1), [0]);
        assert_eq!(split(5, &[], 1), [0usize; 0]);
    }

    #[test]
    fn a_small_sum_goes_to_the_card_that_finishes_first() {
        assert_eq!(split(10, &cards(&[(1.0, 10.0), (0.0, 4.0), (1.9, 1000.0)]), 100), [0, 0, 10]);
        assert_eq!(split(10, &cards(&[(1.0, 10.0), (0.0, 6.0), (1.9, 1000.0)]), 100), [0, 10, 0]);
    }

    #[test]
    fn all_pairs_are_distributed() {
        for pairs in [1, 2, 3, 7, 1000, 65_537] {
            for speeds in [[1.0, 1.0, 1.0], [1.0, 2.5, 0.1], [1e-9, 1e9, 1.0]] {
                let cards = cards(&speeds.map(|speed| (0.25, speed)));
                assert_eq!(split(pairs, &cards, 1).iter().sum::<usize>(), pairs);
            }
        }
    }
}
