//! Exact cycles of the DMA engine: bandwidth of long chains, and latency of single transfers.
//!
//! At 250 MHz, 250 cycles are a microsecond. The card's memory responds after 100 cycles.

mod chains;

use chains::{CARD_LATENCY, Case, LISTS, WORD, chain};
use xdma_rtl_dma::Engine;

fn bandwidth() {
    println!(
        "bytes per cycle, from the first to the last beat of data (H2C: card writes, C2H: host writes)\n"
    );
    println!("| host latency | reads under way | descriptors | limit | H2C | C2H | both at once |");
    println!("|---|---|---|---|---|---|---|");
    for latency in [250, 500] {
        for (reads, code) in [(64, 2), (32, 1)] {
            for (count, len) in [(1024, 512), (256, 4096), (256, 16384)] {
                let case = Case { latency, reads, code, count, len };
                let single = [true, false].map(|to_card| case.rates(&[to_card])[0]);
                let both = case.rates(&[true, false]);
                println!(
                    "| {latency} cycles | {reads} x {} B | {count} x {len} B | {:.1} | {:.1} | {:.1} | {:.1} + {:.1} |",
                    case.bytes(),
                    case.limit(),
                    single[0],
                    single[1],
                    both[0],
                    both[1]
                );
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
