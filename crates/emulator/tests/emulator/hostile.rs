//! Hostile clients: whatever they send, the process survives and the next client is served.

use crate::host::{Bench, MEMORY};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio_user::Client;
use xdma_emulator::logic::{Loopback, Memory};
use xdma_emulator::{EmulatedCard, EmulatorOptions};

/// Returns the address of a register with side effects, or one near it.
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

/// Returns a small number, an address inside memory, or any value.
fn value(rng: &mut StdRng) -> u32 {
    match rng.random_range(0..3) {
        0 => rng.random_range(0..16),
        1 => rng.random_range(0..MEMORY as u32) & !0x1f,
        _ => rng.next_u32(),
    }
}

/// Returns memory full of descriptors that point at each other, most of them well-formed.
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
fn random_register_writes_over_random_descriptors() {
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        let options = EmulatorOptions { seed, ..EmulatorOptions::default() };
        let options = if seed % 2 == 0 { options.with_streams() } else { options };
        let mut bench = match options.card.is_stream() {
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

/// Returns a request to read `count` bytes of the XDMA registers.
fn read_request(count: u32) -> Vec<u8> {
    let mut bytes = vec![1, 0, 9, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(2u32.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes
}

fn start() -> EmulatedCard {
    EmulatedCard::start(EmulatorOptions::default(), Arc::new(Memory::new())).unwrap()
}

/// Returns a connection that has the card, whose VERSION was answered.
fn owner(card: &EmulatedCard) -> UnixStream {
    let mut stream = UnixStream::connect(card.socket()).unwrap();
    stream.write_all(&version()).unwrap();
    let mut header = [0; 16];
    stream.read_exact(&mut header).unwrap();
    assert_eq!(header[8], 1, "admitted");
    let size = u32::from_le_bytes(header[4..8].try_into().unwrap());
    stream.read_exact(&mut vec![0; size as usize - 16]).unwrap();
    stream
}

/// Sends VERSION once, and returns whether the client was admitted.
fn greets(path: &Path) -> io::Result<bool> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(&version())?;
    let mut header = [0; 16];
    stream.read_exact(&mut header)?;
    Ok(header[8] == 1)
}

/// Asserts that a client gets the card within `limit`, by retrying.
fn becomes_free(card: &EmulatedCard, limit: Duration) {
    let begin = Instant::now();
    let mut last = None;
    while begin.elapsed() < limit {
        match greets(card.socket()) {
            Ok(true) => return,
            refused => last = Some(refused),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the card is still in use after {limit:?}: {last:?}");
}

/// Sends data until the card stops receiving for a moment.
fn send_until_full(stream: &mut UnixStream, bytes: &[u8]) {
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while stream.write_all(bytes).is_ok() {}
}

/// Time limit for the card to disconnect a client. The card itself allows five seconds for a message or a reply.
const CUT_OFF: Duration = Duration::from_secs(12);

#[test]
fn a_client_that_pipelines_reads_and_disappears_frees_the_card() {
    let card = start();
    for count in [4, 0x1000, 0x1_0000] {
        let mut client = owner(&card);
        send_until_full(&mut client, &read_request(count));
        drop(client);
        becomes_free(&card, Duration::from_secs(5));
    }
}

#[test]
fn a_client_that_does_not_read_replies_loses_the_card() {
    let card = start();
    let mut client = owner(&card);
    send_until_full(&mut client, &read_request(0x1000));
    becomes_free(&card, CUT_OFF);
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert!(!rest.is_empty(), "earlier replies are still readable");
}

#[test]
fn a_partial_message_loses_the_card_but_silence_does_not() {
    let card = start();
    let mut client = owner(&card);
    std::thread::sleep(Duration::from_secs(7));
    client.write_all(&read_request(4)).unwrap();
    client.read_exact(&mut [0; 36]).unwrap();
    for (sent, whole) in [(8, 32), (20, 32)] {
        client.write_all(&read_request(4)[..sent]).unwrap();
        becomes_free(&card, CUT_OFF);
        assert!(sent < whole);
        client = owner(&card);
    }
}

#[test]
fn a_message_sent_byte_by_byte_loses_the_card() {
    let card = start();
    let mut client = owner(&card);
    let mut write = read_request(4096);
    write[2] = 10;
    write[4..8].copy_from_slice(&(32 + 4096u32).to_le_bytes());
    client.write_all(&write).unwrap();
    let slow = std::thread::spawn(move || {
        while client.write_all(&[0]).is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    becomes_free(&card, CUT_OFF);
    slow.join().unwrap();
}

#[test]
fn a_slow_sender_does_not_block_admission() {
    let card = start();
    let first = owner(&card);
    let mut slow = UnixStream::connect(card.socket()).unwrap();
    let sender = std::thread::spawn(move || {
        for byte in version().iter().cycle() {
            if slow.write_all(&[*byte]).is_err() {
                return;
            }
            // At this rate VERSION would be complete only long after the time limit.
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    std::thread::sleep(Duration::from_millis(150));
    let begin = Instant::now();
    assert!(!greets(card.socket()).unwrap(), "refused with an error reply");
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    drop(first);
    becomes_free(&card, Duration::from_secs(1));
    sender.join().unwrap();
}

fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn silent_connections_neither_hold_the_card_nor_accumulate() {
    let card = start();
    let (threads, files) = (count("/proc/self/task"), count("/proc/self/fd"));
    let silent: Vec<_> = (0..300).map(|_| UnixStream::connect(card.socket()).unwrap()).collect();
    becomes_free(&card, Duration::from_secs(2));
    let client = owner(&card);
    assert!(!greets(card.socket()).unwrap());
    assert!(count("/proc/self/task") <= threads + 4, "silent clients must not use threads");
    let of_the_card = count("/proc/self/fd") - silent.len() - 1;
    assert!(of_the_card <= files + 80, "{of_the_card} files after {files}");
    drop(client);
    becomes_free(&card, Duration::from_secs(2));
    // Dropping the card must not wait for any of them.
    let begin = Instant::now();
    drop(card);
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_partial_or_oversized_version_message_is_dropped() {
    let card = start();
    let mut long = version();
    long[4..8].copy_from_slice(&(1u32 << 20).to_le_bytes());
    for greeting in [&version()[..10], &long] {
        let mut stream = UnixStream::connect(card.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        stream.write_all(greeting).unwrap();
        assert!(greets(card.socket()).unwrap(), "the card is still free");
        assert!(matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_)));
        let ended = stream.read(&mut [0; 16]);
        assert!(
            !ended.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock),
            "the connection is closed"
        );
    }
}

#[test]
fn a_full_eventfd_does_not_block_the_card() {
    let mut bench = Bench::new(EmulatorOptions::default());
    // A blocking eventfd at its maximum count: another write would block.
    let eventfd = vmm_sys_util::eventfd::EventFd::new(0).unwrap();
    eventfd.write(u64::MAX - 1).unwrap();
    let fds = [eventfd.as_raw_fd()];
    bench.client.set_irqs(2, 0x24, 0, 1, &fds).unwrap();
    // A trigger without data fires the vector.
    bench.client.set_irqs(2, 0x21, 0, 1, &[]).unwrap();
    assert_eq!(bench.read(0x2000), 0x1fc2_0006, "the card answers");
    assert_eq!(eventfd.read().unwrap(), u64::MAX - 1);
    let Bench { card, client, .. } = bench;
    drop(client);
    becomes_free(&card, Duration::from_secs(2));
}

#[test]
fn random_messages() {
    let card = EmulatedCard::start(EmulatorOptions::default(), Arc::new(Memory::new())).unwrap();
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
        // The card may have closed the connection already.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut replies = Vec::new();
        let ended = stream.read_to_end(&mut replies);
        let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "round {round}: neither answered nor disconnected: {bytes:x?}");
    }
    let mut client = Client::new(card.socket()).unwrap();
    let mut id = [0; 4];
    client.region_read(2, 0x3000, &mut id).unwrap();
    assert_eq!(u32::from_le_bytes(id), 0x1fc3_0006);
}
