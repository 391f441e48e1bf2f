//! The columns of the tables, and which of them fit on a terminal.

use super::WatchedCard;
use super::rates::ChannelRates;
use crate::number::{nanoseconds, short};
use std::time::Duration;

/// A column of a table with a row for each `T`.
pub struct Column<T: 'static> {
    head: &'static str,
    /// Width in characters, after a blank.
    width: usize,
    /// On a narrow terminal, the columns with the highest ranks are left out. Those of rank 0 are always shown.
    rank: u8,
    value: fn(&T) -> String,
}

/// The columns that follow the name of a channel.
pub const CHANNEL: [Column<ChannelRates>; 7] = [
    Column { head: "bytes/s", width: 8, rank: 0, value: |of| short(of.bytes_per_second) },
    Column { head: "jobs/s", width: 9, rank: 1, value: |of| short(of.jobs_per_second) },
    Column { head: "queue", width: 5, rank: 3, value: |of| of.in_flight.to_string() },
    Column { head: "p50", width: 8, rank: 0, value: |of| time(of.p50) },
    Column { head: "p99", width: 8, rank: 4, value: |of| time(of.p99) },
    Column { head: "stalls", width: 6, rank: 2, value: |of| of.stalls.to_string() },
    Column { head: "errors", width: 6, rank: 0, value: |of| of.errors.to_string() },
];

/// The columns that come before the name of a card.
pub const SUMMARY: [Column<WatchedCard>; 8] = [
    Column { head: "MSMs/s", width: 9, rank: 0, value: |card| msm(card, |msm| short(msm.jobs_per_second)) },
    Column { head: "pairs/s", width: 9, rank: 4, value: |card| msm(card, |msm| short(msm.pairs_per_second)) },
    Column { head: "queue", width: 5, rank: 3, value: |card| msm(card, |msm| msm.in_flight.to_string()) },
    Column { head: "core idle", width: 11, rank: 1, value: idle },
    Column { head: "H2C", width: 8, rank: 2, value: |card| short(card.rates.bytes_per_second("H2C")) },
    Column { head: "C2H", width: 8, rank: 2, value: |card| short(card.rates.bytes_per_second("C2H")) },
    Column { head: "stalls", width: 6, rank: 5, value: |card| card.rates.stalls().to_string() },
    Column { head: "errors", width: 6, rank: 0, value: |card| card.rates.errors().to_string() },
];

/// Returns the columns that fit into `width` characters.
pub fn fitting<T>(columns: &[Column<T>], width: usize) -> Vec<&Column<T>> {
    let shown = |limit: u8| columns.iter().filter(move |column| column.rank <= limit);
    let fits = |limit: &u8| shown(*limit).map(|column| 1 + column.width).sum::<usize>() <= width;
    let ranks = columns.iter().map(|column| column.rank);
    shown(ranks.filter(fits).max().unwrap_or(0)).collect()
}

/// Returns the heads of columns.
pub fn heads<T>(columns: &[&Column<T>]) -> String {
    columns.iter().map(|Column { head, width, .. }| format!(" {head:>width$}")).collect()
}

/// Returns the values of a row.
pub fn values<T>(columns: &[&Column<T>], row: &T) -> String {
    let value = |column: &&Column<T>| format!(" {:>width$}", (column.value)(row), width = column.width);
    columns.iter().map(value).collect()
}

/// Returns a value of the MSM client of a card; "-" if there is none.
fn msm(card: &WatchedCard, value: fn(&super::rates::MsmRates) -> String) -> String {
    card.rates.msm.as_ref().map_or_else(|| "-".into(), value)
}

fn idle(card: &WatchedCard) -> String {
    let idle = card.rates.msm.as_ref().and_then(|msm| msm.idle);
    idle.map_or_else(|| "-".into(), |idle| format!("{:.1} %", idle * 100.0))
}

fn time(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".into(), |time| nanoseconds(time.as_nanos().try_into().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_terminals_show_the_most_important_columns() {
        let heads = |width| heads(&fitting(&CHANNEL, width));
        assert_eq!(heads(80), "  bytes/s    jobs/s queue      p50      p99 stalls errors");
        assert_eq!(heads(57), heads(80));
        assert_eq!(heads(56), "  bytes/s    jobs/s queue      p50 stalls errors");
        assert_eq!(heads(43), "  bytes/s    jobs/s      p50 stalls errors");
        assert_eq!(heads(0), "  bytes/s      p50 errors");
    }

    #[test]
    fn a_time_may_be_missing() {
        assert_eq!(time(Some(Duration::from_micros(1500))), "1.50 ms");
        assert_eq!(time(None), "-");
    }
}
