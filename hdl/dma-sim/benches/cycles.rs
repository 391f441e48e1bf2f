//! Exact cycles of the DMA engine: bandwidth of long chains, and latency of single transfers.
//!
//! At 250 MHz, 250 cycles are a microsecond. The card's memory responds after 100 cycles.

use xdma_rtl_dma::{Engine, Span, Transfer};

const CARD_LATENCY: u64 = 100;
const HOST: u64 = 0x12_3400_0000;
const CARD: u64 = 0x7_0000_0000;
const LISTS: [u64; 2] = [0x4000_0000, 0x4001_0000];
const WORD: u64 = 0x5000_0000;

fn chain(count: u64, len: u32) -> Vec<Transfer> {
    (0..count).map(|i| (HOST + i * u64::from(len), CARD + i * u64::from(len), len)).collect()
}

/// Runs a chain on the first channel of each of the directions, and returns the beats written by each.
fn run(latency: u64, reads: usize, code: u8, count: u64, len: u32, directions: &[bool]) -> Vec<Span> {
    let mut engine =
        Engine::new(Engine::host_memory(latency, reads), Engine::card_memory(CARD_LATENCY), code);
    for &to_card in directions {
        let list = LISTS[usize::from(to_card)];
        let adjacent = engine.lay(to_card, list, &chain(count, len));
        engine.prepare(to_card, 0, list, adjacent, WORD + 64 * u64::from(to_card));
    }
    directions.iter().for_each(|&to_card| engine.ring(to_card, 0));
    for &to_card in directions {
        assert_eq!(engine.outcome(to_card, 0), (0x06, count as u32));
    }
    directions.iter().map(|&to_card| if to_card { engine.card.data } else { engine.host.data }).collect()
}

fn bandwidth() {
    println!(
        "bytes per cycle, from the first to the last beat of data (H2C: card writes, C2H: host writes)\n"
    );
    println!("| host latency | reads under way | descriptors | limit | H2C | C2H | both at once |");
    println!("|---|---|---|---|---|---|---|");
    for latency in [250, 500] {
        for (reads, code) in [(64, 2), (32, 1)] {
            for (count, len) in [(256, 4096), (256, 16384)] {
                let bytes = 128u64 << code;
                let limit = (reads as f64 * bytes as f64 / latency as f64).min(64.0);
                let rate = |span: &Span| span.count as f64 * 64.0 / span.cycles() as f64;
                let single =
                    [true, false].map(|to_card| rate(&run(latency, reads, code, count, len, &[to_card])[0]));
                let both = run(latency, reads, code, count, len, &[true, false]);
                println!(
                    "| {latency} cycles | {reads} x {bytes} B | {count} x {len} B | {limit:.1} | {:.1} | {:.1} | {:.1} + {:.1} |",
                    single[0],
                    single[1],
                    rate(&both[0]),
                    rate(&both[1])
                );
                assert!(single[0] >= 0.9 * limit, "H2C is below 90 % of the limit");
                assert!(single[1] >= 0.9 * limit, "C2H is below 90 % of the limit");
            }
        }
    }
}

fn single_transfers() {
    println!(
        "\ncycles from the doorbell (the register write begins) to the first read of payload, the last beat, and the write-back\n"
    );
    println!("| direction | host latency | bytes | first read | last beat | write-back |");
    println!("|---|---|---|---|---|---|");
    for to_card in [true, false] {
        for latency in [250, 500] {
            for len in [64, 4096, 65536, 1 << 20] {
                let mut engine =
                    Engine::new(Engine::host_memory(latency, 64), Engine::card_memory(CARD_LATENCY), 2);
                let adjacent = engine.lay(to_card, LISTS[0], &chain(1, len));
                engine.prepare(to_card, 0, LISTS[0], adjacent, WORD);
                let doorbell = engine.cycle();
                engine.ring(to_card, 0);
                engine.until(|engine| engine.host.write_backs.count > 0);
                let (read, written) = match to_card {
                    true => (engine.host.addresses.first, engine.card.data.last),
                    false => (engine.card.addresses.first, engine.host.data.last),
                };
                let since = |cycle: u64| cycle - doorbell;
                println!(
                    "| {} | {latency} | {len} | {} | {} | {} |",
                    if to_card { "H2C" } else { "C2H" },
                    since(read),
                    since(written),
                    since(engine.host.write_backs.first)
                );
            }
        }
    }
}

fn main() {
    bandwidth();
    single_transfers();
}
