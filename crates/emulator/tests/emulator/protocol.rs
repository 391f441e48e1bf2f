//! The protocol, tested with the client of the `vfio_user` crate, which shares no code with the card, and byte by byte.

use crate::host::{Bench, Desc, chain};
use crate::service::{message, raw};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio_user::Client;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;
use xdma_emulator::logic::Memory;
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions};

/// VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER; [`FIRE`] has VFIO_IRQ_SET_DATA_NONE instead.
const EVENTFD_TRIGGER: u32 = 0x24;
const FIRE: u32 = 0x21;
const MSI_X: u32 = 2;
const NO_REPLY: u32 = 1 << 4;

fn start(options: EmulatorOptions) -> EmulatedCard {
    EmulatedCard::start(options, Arc::new(Memory::new())).unwrap()
}

#[test]
fn an_independent_client_reads_the_device_description() {
    for (card, bars, vectors) in [
        (CardFile::f1(), [32 << 20, 2 << 20, 64 << 10, 0, 1 << 37, 0], 33),
        (CardFile::alveo(), [1 << 20, 64 << 10, 0, 0, 0, 0], 32),
    ] {
        let name = card.name.clone();
        let card = start(EmulatorOptions::like(card));
        let mut client = Client::new(card.socket()).unwrap();
        let sizes = [&bars[..], &[0, 4096, 0]].concat();
        for (index, size) in (0..).zip(sizes) {
            let region = client.region(index).unwrap();
            let flags = if size == 0 { 0 } else { 3 };
            assert_eq!((region.index, region.size, region.flags), (index, size, flags), "{name}");
            assert!(region.file_offset.is_none() && region.sparse_areas.is_empty());
        }
        assert!(client.region(9).is_none());
        // INTx is maskable and masked automatically when it fires. The numbers of message vectors cannot be changed.
        let irqs = [0, 1, 2, 3, 4].map(|index| client.get_irq_info(index).unwrap());
        let seen = irqs.map(|irq| (irq.index, irq.count, irq.flags));
        assert_eq!(seen, [(0, 1, 7), (1, 1, 9), (2, vectors, 9), (3, 0, 1), (4, 0, 1)], "{name}");
    }
}

#[test]
fn an_independent_client_uses_the_device() {
    let mut bench = Bench::new(EmulatorOptions::default().with_function_reset(true));
    // An additional map. The card reads payload from it until it is unmapped.
    bench.map(0x4000_0000, 0x10_0000, 0x10_0000);
    let list = chain(0x1000, &[Desc::h2c(0x4000_0000, 0, 64)]);
    bench.start(0, &list, 0x04ff_fe7f);
    bench.wait_register(0x40, 1, 0);
    bench.clean();
    bench.client.dma_unmap(0x4000_0000, 0x10_0000).unwrap();
    bench.start(0, &list, 0x04ff_fe7f);
    bench.wait_register(0x40, 0x201, 0x200);
    assert_eq!(bench.card.dma_faults().len(), 1);

    let eventfd = EventFd::new(EFD_NONBLOCK).unwrap();
    bench.client.set_irqs(MSI_X, EVENTFD_TRIGGER, 3, 1, &[eventfd.as_raw_fd()]).unwrap();
    // Enable MSI-X, and unmask the function and the vector.
    bench.client.region_write(7, 0x62, &[0, 0x80]).unwrap();
    bench.write(0x803c, 0);
    bench.client.set_irqs(MSI_X, FIRE, 3, 1, &[]).unwrap();
    assert_eq!(eventfd.read().unwrap(), 1);

    bench.write(0x2014, 0xff);
    assert_eq!(bench.read(0x2010), 0xff);
    bench.client.reset().unwrap();
    assert_eq!(bench.read(0x2010), 0);
}

/// Sends a message and returns the reply.
fn exchange(stream: &mut UnixStream, command: u16, body: &[u8]) -> Vec<u8> {
    stream.write_all(&message(command, 0, body)).unwrap();
    receive(stream)
}

fn receive(stream: &mut UnixStream) -> Vec<u8> {
    let mut reply = vec![0; 16];
    stream.read_exact(&mut reply).unwrap();
    let size = u32::from_le_bytes(reply[4..8].try_into().unwrap());
    reply.resize(size as usize, 0);
    stream.read_exact(&mut reply[16..]).unwrap();
    reply
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn done(command: u16, body: &[u8]) -> Vec<u8> {
    message(command, 1, body)
}

fn refused(command: u16, errno: i32) -> Vec<u8> {
    let mut reply = message(command, 0x21, &[]);
    reply[12] = errno as u8;
    reply
}

#[test]
fn every_reply_has_the_protocols_layout() {
    let card = start(EmulatorOptions::default().with_function_reset(true));
    let mut stream = UnixStream::connect(card.socket()).unwrap();
    let version = exchange(&mut stream, 1, b"\0\0\x01\0{}\0");
    assert_eq!(version[16..20], [0; 4]);
    let capabilities: serde_json::Value =
        serde_json::from_slice(version[20..].strip_suffix(&[0]).unwrap()).unwrap();
    let expected =
        r#"{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,"migration":{"pgsize":4096}}}"#;
    assert_eq!(capabilities, serde_json::from_str::<serde_json::Value>(expected).unwrap());
    for (command, body, expected) in [
        (4, words(&[16, 0, 0, 0]), words(&[16, 3, 9, 5])),
        (5, words(&[32, 0, 2, 0, 0, 0, 0, 0]), words(&[32, 3, 2, 0, 0x1_0000, 0, 0, 0])),
        (7, words(&[16, 0, 1, 0]), words(&[16, 9, 1, 1])),
        (8, words(&[20, FIRE, MSI_X, 0, 1]), vec![]),
        (9, words(&[0x2000, 0, 2, 4]), words(&[0x2000, 0, 2, 4, 0x1fc2_0006])),
        (10, words(&[0x2004, 0, 2, 4, 1]), words(&[0x2004, 0, 2, 4])),
        (2, words(&[32, 3, 0, 0, 0x1000, 1, 0x2000, 0]), vec![]),
        (3, words(&[24, 0, 0x1000, 1, 0x2000, 0]), words(&[24, 0, 0x1000, 1, 0x2000, 0])),
        (13, vec![], vec![]),
    ] {
        assert_eq!(exchange(&mut stream, command, &body), done(command, &expected));
    }
}

#[test]
fn every_error_reply_has_its_errno() {
    let card = start(EmulatorOptions::default());
    let mut stream = raw(&card);
    for (command, body, errno) in [
        (5, words(&[32, 0, 9, 0, 0, 0, 0, 0]), libc::EINVAL),
        (7, words(&[16, 0, 5, 0]), libc::EINVAL),
        (8, words(&[20, FIRE, 5, 0, 1]), libc::EINVAL),
        (8, words(&[20, FIRE, MSI_X, 0, 1000]), libc::EINVAL),
        (8, words(&[20, 0x22, MSI_X, 0, 1, 1]), libc::ENOTSUP),
        (9, words(&[0xfffd, 0, 2, 4]), libc::EINVAL),
        (10, words(&[0, 0, 9, 4, 1]), libc::EINVAL),
        (2, words(&[32, 3, 0, 0, 1, 0, 0x1000, 0]), libc::EINVAL),
        (13, vec![], libc::ENOTTY),
        (11, words(&[0; 4]), libc::ENOTSUP),
        (77, vec![], libc::ENOTSUP),
    ] {
        assert_eq!(exchange(&mut stream, command, &body), refused(command, errno), "{body:?}");
    }
    let map = words(&[32, 3, 0, 0, 0, 0, 0x1000, 0]);
    assert_eq!(exchange(&mut stream, 2, &map), done(2, &[]));
    assert_eq!(exchange(&mut stream, 2, &map), refused(2, libc::EEXIST));
}

#[test]
fn posted_commands_get_no_reply_not_even_an_error() {
    let card = start(EmulatorOptions::default());
    let mut stream = raw(&card);
    for (command, body) in [
        (2, words(&[32, 3, 0, 0, 1, 0, 0x1000, 0])),
        (3, words(&[24, 0, 0, 0, 0x1000, 0])),
        (8, words(&[20, FIRE, 99, 0, 1])),
        (10, words(&[0x2004, 0, 2, 4, 0x5a])),
        (10, words(&[0, 0, 9, 4, 1])),
        (13, vec![]),
        (77, vec![]),
    ] {
        stream.write_all(&message(command, NO_REPLY, &body)).unwrap();
    }
    let read = words(&[0x2004, 0, 2, 4]);
    assert_eq!(exchange(&mut stream, 9, &read), done(9, &[read.clone(), words(&[0x5a])].concat()));
}

#[test]
fn messages_are_executed_after_their_sender_has_left() {
    let card = start(EmulatorOptions::default());
    let begin = Instant::now();
    for round in 1..=20 {
        let mut stream = raw(&card);
        // A reply that the client never reads, followed by writes without replies.
        let mut sent = message(9, 0, &words(&[0, 0, 2, 4]));
        for value in (0..100).map(|n| round * 100 + n) {
            sent.extend(message(10, NO_REPLY, &words(&[0x2004, 0, 2, 4, value])));
        }
        stream.write_all(&sent).unwrap();
        drop(stream);
        let reply = exchange(&mut raw(&card), 9, &words(&[0x2004, 0, 2, 4]));
        assert_eq!(reply[32..], (round * 100 + 99).to_le_bytes());
    }
    assert!(begin.elapsed() < Duration::from_secs(10));
}

/// Files sent with a command that does not use them are closed.
#[test]
fn unneeded_files_are_closed() {
    let card = start(EmulatorOptions::default());
    let mut stream = raw(&card);
    let (mut near, far) = UnixStream::pair().unwrap();
    let read = message(9, 0, &words(&[0, 0, 2, 4]));
    stream.send_with_fds(&[read.as_slice()], &[far.as_raw_fd(); 16]).unwrap();
    receive(&mut stream);
    drop(far);
    near.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(near.read(&mut [0]).unwrap(), 0, "the other end must be closed");
    // Too many files end the connection, and are closed too.
    let (mut near, far) = UnixStream::pair().unwrap();
    stream.send_with_fds(&[read.as_slice()], &[far.as_raw_fd(); 17]).unwrap();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    drop(far);
    near.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(near.read(&mut [0]).unwrap(), 0, "the other end must be closed");
}
