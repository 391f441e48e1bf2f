//! Clients, well-behaved or not: admission, isolation, and the state that they leave behind.

use crate::host::{Bench, Desc, chain};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};
use vfio_user::Client;
use vm_memory::VolatileSlice;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;
use xdma_emulator::logic::{AxiResponse, Burst, Logic, Memory, Shell};
use xdma_emulator::{DmaFaultReason, EmulatedCard, EmulatorOptions, Error, serve};

fn start(options: EmulatorOptions) -> EmulatedCard {
    EmulatedCard::start(options, Arc::new(Memory::new())).unwrap()
}

/// A logic that does not accept writes until it is opened.
#[derive(Default)]
struct BlockingLogic {
    open: AtomicBool,
    shell: OnceLock<Arc<dyn Shell>>,
}

impl BlockingLogic {
    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.shell.get().unwrap().progress();
    }
}

impl Logic for BlockingLogic {
    fn attach(&self, shell: Arc<dyn Shell>) {
        assert!(self.shell.set(shell).is_ok());
    }

    fn write(&self, _: usize, _: u64, _: Burst, data: &VolatileSlice) -> AxiResponse {
        if self.open.load(Ordering::SeqCst) { AxiResponse::Okay(data.len()) } else { AxiResponse::Wait }
    }

    fn read(&self, _: usize, _: u64, _: Burst, _: &VolatileSlice) -> AxiResponse {
        AxiResponse::SlaveError
    }

    fn user_read(&self, _: usize, _: u64) -> u32 {
        0
    }

    fn user_write(&self, _: usize, _: u64, _: u32) {}

    fn reset(&self) {}
}

#[test]
fn the_socket_is_private_and_goes_with_the_card() {
    let card = start(EmulatorOptions::default());
    let path = card.socket().to_path_buf();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    drop(card);
    assert!(!path.exists() && !path.parent().unwrap().exists());
}

#[test]
fn a_second_client_is_refused_promptly() {
    let card = start(EmulatorOptions::default());
    let mut first = Client::new(card.socket()).unwrap();
    let begin = Instant::now();
    let mut second = UnixStream::connect(card.socket()).unwrap();
    second.write_all(&version()).unwrap();
    let mut reply = [0; 16];
    second.read_exact(&mut reply).unwrap();
    assert_eq!((reply[8], reply[12]), (0x21, libc::EBUSY as u8));
    assert!(begin.elapsed() < Duration::from_secs(2));
    let mut id = [0; 4];
    first.region_read(2, 0, &mut id).unwrap();
    assert_eq!(u32::from_le_bytes(id), 0x1fc0_0006);
    drop(first);
    Client::new(card.socket()).unwrap();
}

pub fn message(command: u16, flags: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    bytes.extend(command.to_le_bytes());
    bytes.extend((16 + body.len() as u32).to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

fn version() -> Vec<u8> {
    message(1, 0, b"\0\0\x01\0{\"capabilities\":{}}\0")
}

/// Returns a connection after the version handshake.
pub fn raw(card: &EmulatedCard) -> UnixStream {
    let mut stream = UnixStream::connect(card.socket()).unwrap();
    stream.write_all(&version()).unwrap();
    let mut header = [0; 16];
    stream.read_exact(&mut header).unwrap();
    let mut rest = vec![0; u32::from_le_bytes(header[4..8].try_into().unwrap()) as usize - 16];
    stream.read_exact(&mut rest).unwrap();
    stream
}

/// The capabilities are optional, and another major version is refused with an error, after which nothing is served.
#[test]
fn versions_are_negotiated() {
    let card = start(EmulatorOptions::default());
    let mut bare = UnixStream::connect(card.socket()).unwrap();
    bare.write_all(&message(1, 0, b"\0\0\x01\0")).unwrap();
    let mut reply = [0; 20];
    bare.read_exact(&mut reply).unwrap();
    assert_eq!((reply[8], &reply[16..18]), (0x01, &[0, 0][..]));
    drop(bare);
    let mut other = UnixStream::connect(card.socket()).unwrap();
    let read = message(9, 0, &[&0u64.to_le_bytes()[..], &2u32.to_le_bytes(), &4u32.to_le_bytes()].concat());
    other.write_all(&[message(1, 0, b"\x01\0\0\0{\"capabilities\":{}}\0"), read].concat()).unwrap();
    let mut rest = vec![];
    // The card closes the stream with unread data, so it may end in a reset.
    let _ = other.read_to_end(&mut rest);
    assert!(
        rest.is_empty() || rest.len() == 16 && (rest[8], rest[12]) == (0x21, libc::ENOTSUP as u8),
        "{rest:?}"
    );
}

/// A client that was refused because another one had the card gets no reply to anything that it sends afterwards.
#[test]
fn a_refused_client_is_not_served_later() {
    let card = start(EmulatorOptions::default());
    let first = Client::new(card.socket()).unwrap();
    let mut second = UnixStream::connect(card.socket()).unwrap();
    second.write_all(&version()).unwrap();
    let mut reply = [0; 16];
    second.read_exact(&mut reply).unwrap();
    assert_eq!((reply[8], reply[12]), (0x21, libc::EBUSY as u8));
    drop(first);
    std::thread::sleep(Duration::from_millis(50));
    let _ = second.write_all(&version());
    let mut rest = vec![];
    let _ = second.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:?}");
    Client::new(card.socket()).unwrap();
}

#[test]
fn a_malformed_message_ends_only_its_connection() {
    let card = start(EmulatorOptions::default());
    let read = |offset: u64, region: u32, count: u32| {
        [&offset.to_le_bytes()[..], &region.to_le_bytes(), &count.to_le_bytes()].concat()
    };
    let mut short = message(9, 0, &read(0, 2, 4));
    short[4] = 3;
    for bad in [
        short,
        message(9, 0, &read(0, 2, u32::MAX)),
        message(2, 0, &[0; 7]),
        message(10, 0, &read(0, 2, 64)),
        message(1, 0, b"\0\0\x01\0\xff\xff"),
        vec![0xff; 64],
    ] {
        let mut stream = raw(&card);
        stream.write_all(&bad).unwrap();
        let mut rest = Vec::new();
        // The card closes the stream with unread data, so it may end in a reset.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    let mut stream = raw(&card);
    stream.write_all(&message(14, 0, &[0; 8])).unwrap();
    let mut reply = [0; 16];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!((reply[8], reply[12]), (0x21, libc::ENOTSUP as u8));
    for (offset, region) in [(u64::MAX, 2), (0xfffd, 2), (0x1000, 7), (0, 3)] {
        stream.write_all(&message(9, 0, &read(offset, region, 4))).unwrap();
        stream.read_exact(&mut reply).unwrap();
        assert_eq!((reply[8], reply[12]), (0x21, libc::EINVAL as u8));
    }
    // A reset, which this card does not support.
    stream.write_all(&message(13, 0, &[])).unwrap();
    stream.read_exact(&mut reply).unwrap();
    assert_eq!((reply[8], reply[12]), (0x21, libc::ENOTTY as u8));
    stream.write_all(&message(9, 0, &read(0x2000, 2, 4))).unwrap();
    let mut answer = [0; 36];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[32..], 0x1fc2_0006u32.to_le_bytes());
}

/// A logic that panics.
struct PanickingLogic;

impl Logic for PanickingLogic {
    fn attach(&self, _: Arc<dyn Shell>) {}

    fn write(&self, _: usize, _: u64, _: Burst, _: &VolatileSlice) -> AxiResponse {
        panic!("a bug in the logic");
    }

    fn read(&self, _: usize, _: u64, _: Burst, _: &VolatileSlice) -> AxiResponse {
        AxiResponse::SlaveError
    }

    fn user_read(&self, _: usize, _: u64) -> u32 {
        panic!("a bug in the logic");
    }

    fn user_write(&self, _: usize, _: u64, _: u32) {}

    fn reset(&self) {}
}

#[test]
fn a_panic_in_the_logic_is_an_axi_error() {
    let mut bench = Bench::with_logic(EmulatorOptions::default(), Arc::new(PanickingLogic));
    for _ in 0..2 {
        bench.start(0, &chain(0x1000, &[Desc::h2c(0x8000, 0, 64)]), 0x04ff_fe7f);
        bench.wait_register(0x40, 0xffff_ffff, 0x8000);
    }
}

#[test]
fn a_panic_in_the_server_ends_only_the_connection() {
    let card = EmulatedCard::start(EmulatorOptions::default(), Arc::new(PanickingLogic)).unwrap();
    for _ in 0..2 {
        let mut client = Client::new(card.socket()).unwrap();
        client.region_read(2, 0x2000, &mut [0; 4]).unwrap();
        assert!(client.region_read(0, 0, &mut [0; 4]).is_err());
    }
}

#[test]
fn map_permissions_are_enforced() {
    let card = start(EmulatorOptions::default());
    let mut stream = raw(&card);
    let file = tempfile::tempfile().unwrap();
    file.set_len(0x3000).unwrap();
    let map = |flags: u32, address: u64| {
        let words = [0u64, address, 0x1000].map(u64::to_le_bytes).concat();
        message(2, 0, &[&32u32.to_le_bytes()[..], &flags.to_le_bytes(), &words].concat())
    };
    for (flags, address) in [(1, 0u64), (2, 0x1000)] {
        let map = map(flags, address);
        stream.send_with_fd(map.as_slice(), file.as_raw_fd()).unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
    }
    // A map without a file is accepted, but its memory is inaccessible.
    stream.write_all(&map(3, 0x2000)).unwrap();
    let mut reply = [0; 16];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[8], 1);
    let write = |region: u32, offset: u64, value: u32| {
        let head = [&offset.to_le_bytes()[..], &region.to_le_bytes(), &4u32.to_le_bytes()].concat();
        message(10, 0x10, &[head, value.to_le_bytes().to_vec()].concat())
    };
    use std::os::unix::fs::FileExt;
    let desc = Desc::c2h(0, 0, 64).bytes(1, 0, 0);
    file.write_all_at(&desc, 0).unwrap();
    for message in [write(7, 4, 6), write(2, 0x1004, 0x00f8_3e7f), write(2, 0x1104, 0x00f8_3e7f)] {
        stream.write_all(&message).unwrap();
    }
    for (start, channel) in [(0x1000, 0x5200), (0x2000, 0x5300)] {
        stream.write_all(&write(2, channel + 0x80, start)).unwrap();
        stream.write_all(&write(2, channel - 0x4000 + 4, 0x00f8_3e7f)).unwrap();
    }
    let end = Instant::now() + Duration::from_secs(10);
    while card.dma_faults().len() < 4 && Instant::now() < end {
        std::thread::yield_now();
    }
    let mut refusals: Vec<_> = card.dma_faults().iter().map(|fault| (fault.iova, fault.reason)).collect();
    refusals.sort_by_key(|(iova, _)| *iova);
    assert_eq!(
        refusals,
        [
            (0, DmaFaultReason::Permission),
            (0, DmaFaultReason::Permission),
            (0x1000, DmaFaultReason::Permission),
            (0x2000, DmaFaultReason::Unreachable)
        ]
    );
    let mut same = [0; 32];
    file.read_exact_at(&mut same, 0).unwrap();
    assert_eq!(same, desc);
}

#[test]
fn unmapping_does_not_wait_for_the_logic() {
    let logic = Arc::new(BlockingLogic::default());
    let mut bench = Bench::with_logic(EmulatorOptions::default(), logic.clone());
    bench.map(0x4000_0000, 0x10_0000, 0x10_0000);
    bench.start(0, &chain(0x1000, &[Desc::h2c(0x4000_0000, 0, 0x8000)]), 0x04ff_fe7f);
    std::thread::sleep(Duration::from_millis(5));
    bench.write(0x0c, 1);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(bench.read(0x40), 1, "an AXI write without a response");
    bench.client.dma_unmap(0x4000_0000, 0x10_0000).unwrap();
    logic.open();
    bench.wait_register(0x40, 0x201, 0x200);
}

#[test]
fn dropping_a_card_does_not_wait() {
    for synchronous in [false, true] {
        let options = EmulatorOptions { synchronous, ..EmulatorOptions::default() };
        let mut bench = Bench::with_logic(options, Arc::new(BlockingLogic::default()));
        bench.start(0, &chain(0x1000, &[Desc::h2c(0x8000, 0, 0x8000)]), 0x04ff_fe7f);
        let Bench { card, mut client, .. } = bench;
        let begin = Instant::now();
        drop(card);
        assert!(begin.elapsed() < Duration::from_secs(1));
        assert!(client.region_read(2, 0, &mut [0; 4]).is_err());
    }
}

#[test]
fn reset_clears_registers_and_engines() {
    let options = EmulatorOptions::default().with_function_reset(true);
    let mut bench = Bench::with_logic(options, Arc::new(BlockingLogic::default()));
    for by_config in [false, true] {
        bench.start(0, &chain(0x1000, &[Desc::h2c(0x8000, 0, 0x8000)]), 0x04ff_fe7f);
        bench.write(0x2014, 0xff);
        bench.write(0x800c, 0);
        bench.wait_register(0x40, 1, 1);
        if by_config {
            bench.client.region_write(7, 0x78, &[0x10, 0xa8]).unwrap();
            assert_eq!(bench.config(4) & 4, 0, "bus mastering ends with a function reset");
        } else {
            bench.client.reset().unwrap();
            assert_eq!(bench.config(4) & 4, 4, "the device's reset restores configuration space");
        }
        let registers = [0x04, 0x40, 0x48, 0x88, 0x90, 0x4080, 0x4088, 0x2010, 0x6010];
        assert_eq!(registers.map(|address| bench.read(address)), [0; 9]);
        assert_eq!(bench.read(0x800c), 0xffff_ffff);
    }
    bench.clean();
}

#[test]
fn a_card_outlives_its_clients() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("card.sock");
    let (stop, stopped) = mpsc::channel();
    let server = {
        let path = path.clone();
        std::thread::spawn(move || {
            serve(EmulatorOptions::default(), Arc::new(Memory::new()), &path, &stopped)
        })
    };
    while !path.exists() {
        std::thread::yield_now();
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for round in 0..3u32 {
        let mut client = Client::new(&path).unwrap();
        let mut seen = [0; 4];
        client.region_read(2, 0x90, &mut seen).unwrap();
        assert_eq!(u32::from_le_bytes(seen), round << 9, "registers are kept");
        client.region_read(7, 4, &mut seen).unwrap();
        assert_eq!(seen[0] & 4, 0, "bus mastering is turned off");
        client.region_write(7, 4, &[6, 0]).unwrap();
        client.region_write(2, 0x90, &((round + 1) << 9).to_le_bytes()).unwrap();
    }
    let taken = EmulatedCard::start_at(EmulatorOptions::default(), Arc::new(Memory::new()), &path);
    assert!(matches!(taken.err(), Some(Error::PathInUse(taken)) if taken == path));
    stop.send(()).unwrap();
    server.join().unwrap().unwrap();
    assert!(!path.exists());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// A process that listens but never accepts: connecting to it would block forever.
#[test]
fn a_path_with_a_hung_listener_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("card.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    // SAFETY: the arguments are plain numbers, and the socket is open.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let _queued = UnixStream::connect(&path).unwrap();
    let (done, ended) = mpsc::channel();
    let at = path.clone();
    std::thread::spawn(move || {
        let taken = EmulatedCard::start_at(EmulatorOptions::default(), Arc::new(Memory::new()), &at);
        let control = xdma_emulator::control::ControlClient::open(&at);
        done.send((taken.err(), control.err())).unwrap();
    });
    let (taken, control) = ended.recv_timeout(Duration::from_secs(5)).expect("no hang");
    assert!(matches!(taken, Some(Error::PathInUse(taken)) if taken == path));
    assert_eq!(control.unwrap().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_client_that_dies_during_a_transfer_leaves_a_usable_card() {
    let card = start(EmulatorOptions::default());
    for _ in 0..5 {
        let mut client = Client::new(card.socket()).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        client.dma_map(0, 0, 1 << 20, file.as_raw_fd()).unwrap();
        // A running ring without an end.
        use std::os::unix::fs::FileExt;
        file.write_all_at(&Desc::h2c(0x1000, 0, 0x8000).bytes(0, 0, 0), 0).unwrap();
        client.region_write(7, 4, &[6, 0]).unwrap();
        client.region_write(2, 0x0c, &1u32.to_le_bytes()).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        let mut status = [1; 4];
        while status[0] & 1 != 0 && Instant::now() < end {
            client.region_read(2, 0x40, &mut status).unwrap();
        }
        assert_eq!(status[0] & 1, 0);
        client.region_write(2, 0x04, &1u32.to_le_bytes()).unwrap();
    }
    let faults = card.dma_faults();
    assert!(faults.iter().all(|fault| fault.reason == DmaFaultReason::Unmapped));
    assert_eq!(card.violations(), []);
}

#[test]
fn too_many_channels_are_rejected() {
    let options = EmulatorOptions::default().with_channels(5, 4);
    let error = EmulatedCard::start(options, Arc::new(Memory::new())).err().unwrap();
    assert_eq!(
        error.to_string(),
        "invalid description of the card: `channels`: a core has at most 4 channels in each direction"
    );
}
