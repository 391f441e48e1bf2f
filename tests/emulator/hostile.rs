//! A client that means harm: whatever it sends, the process lives and the next client is served.

use crate::host::{Bench, MEMORY};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio_user::Client;
use xdma::emulator::logic::{Loopback, Memory};
use xdma::emulator::{EmulatedCard, Options};

/// Register addresses that do something, and those around them.
fn address(rng: &mut StdRng) -> u64 {
    let target = rng.random_range(0..10u64);
    let channel = rng.random_range(0..5u64);
    let offsets = [
        0x04, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x20, 0x24, 0x28, 0x40, 0x44, 0x80, 0x84, 0x88, 0x8c, 0x90, 0xc0,
    ];
    let offset = offsets[rng.random_range(0..offsets.len())];
    let channel = if matches!(target, 0 | 1 | 4 | 5) { channel << 8 } else { 0 };
    target << 12 | channel | offset
}

/// Small numbers, addresses inside memory, and anything.
fn value(rng: &mut StdRng) -> u32 {
    match rng.random_range(0..3) {
        0 => rng.random_range(0..16),
        1 => rng.random_range(0..MEMORY as u32) & !0x1f,
        _ => rng.next_u32(),
    }
}

/// Memory full of descriptors that point at each other, most of them well-formed.
fn descriptors(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    for descriptor in bytes.chunks_mut(32) {
        let magic = if rng.random_bool(0.95) { 0xad4b_0000 } else { 0 };
        let words = [
            magic | rng.next_u32() & 0xffff,
            rng.random_range(0..0x2_0000),
            rng.random_range(0..MEMORY as u32 + 0x1000),
            u32::from(rng.random_bool(0.05)),
            rng.random_range(0..MEMORY as u32 + 0x1000),
            u32::from(rng.random_bool(0.05)),
            rng.random_range(0..0x1_0000) & !0x1f,
            0,
        ];
        for (bytes, word) in descriptor.chunks_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
    bytes
}

#[test]
fn any_register_writes_over_any_descriptors() {
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        let options = Options { seed, stream: seed % 2 == 0, ..Options::default() };
        let mut bench = match options.stream {
            true => Bench::with_logic(options, Arc::new(Loopback::with_depth(4096))),
            false => Bench::new(options),
        };
        let descriptors = descriptors(&mut rng);
        for at in (0..MEMORY).step_by(descriptors.len()) {
            bench.put(at, &descriptors);
        }
        for _ in 0..2000 {
            let (address, value) = (address(&mut rng), value(&mut rng));
            match rng.random_range(0..4) {
                0 => _ = bench.read(address),
                _ => bench.write(address, value),
            }
        }
        assert_eq!(bench.read(0x2000), 0x1fc2_0006);
        let begin = Instant::now();
        drop(bench);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

fn version() -> Vec<u8> {
    let body = b"\0\0\x01\0{\"capabilities\":{}}\0";
    let mut bytes = vec![1, 0, 1, 0];
    bytes.extend((16 + body.len() as u32).to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

#[test]
fn any_messages() {
    let card = EmulatedCard::start(Options::default(), Arc::new(Memory::new())).unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    for round in 0..300 {
        let mut stream = UnixStream::connect(card.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = if round % 4 == 0 { Vec::new() } else { version() };
        for _ in 0..rng.random_range(1..4) {
            let size = [16, 32, 36, 40, 48, rng.random_range(0..100)][rng.random_range(0..6)];
            bytes.extend((rng.next_u32() as u16).to_le_bytes());
            bytes.extend(rng.random_range(0..17u16).to_le_bytes());
            bytes.extend((size as u32).to_le_bytes());
            bytes.extend(
                [[0, 0x10, 1, rng.next_u32()][rng.random_range(0..4)].to_le_bytes(), [0; 4]].concat(),
            );
            bytes.extend((16..size).map(|_| if rng.random_bool(0.5) { 0 } else { rng.next_u32() as u8 }));
        }
        // The card may have hung up by now.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut replies = Vec::new();
        let ended = stream.read_to_end(&mut replies);
        let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "round {round}: neither answered nor ended: {bytes:x?}");
    }
    let mut client = Client::new(card.socket()).unwrap();
    let mut id = [0; 4];
    client.region_read(2, 0x3000, &mut id).unwrap();
    assert_eq!(u32::from_le_bytes(id), 0x1fc3_0006);
}
