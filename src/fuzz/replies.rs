//! The driver's end of a vfio-user socket, with a process behind it that says anything.

use crate::bus::Bus;
use crate::bus::vfio_user::VfioUser;
use crate::memory::Mapper;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Any bytes as the answers to a client that greets, looks, and uses a card.
pub fn replies(bytes: &[u8]) {
    let (client, mut server) = UnixStream::pair().expect("there are sockets");
    server.set_nonblocking(true).expect("it is a socket");
    // What does not fit was not asked for.
    let _ = server.write_all(&answers(bytes));
    let _ = server.shutdown(Shutdown::Write);
    let Ok(bus) = VfioUser::over(client, Path::new("a socket")) else { return };
    let _ = bus.config_read(0, 4);
    for index in 0..6 {
        if let Ok(bar) = bus.bar(index) {
            let _ = bar.read32(0).and_then(|value| bar.write32(4, value));
        }
    }
    let _ = bus.unmap(0x1000, 0x1000);
    let _ = bus.reset();
    let _ = bus.set_interrupts(0, &[]);
}

/// Messages: an odd byte takes a header that answers the next request, and its low bits the size; the rest is as it comes.
fn answers(bytes: &[u8]) -> Vec<u8> {
    let (mut all, mut rest, mut id) = (vec![], bytes, 0u16);
    while let Some((&first, after)) = rest.split_first() {
        if first & 1 == 0 {
            all.extend_from_slice(&after[..after.len().min(16)]);
            rest = &after[after.len().min(16)..];
            continue;
        }
        let len = usize::from(first >> 1).min(after.len());
        all.extend(id.to_le_bytes());
        all.extend([0, 0]);
        all.extend((16 + len as u32).to_le_bytes());
        all.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        all.extend_from_slice(&after[..len]);
        (rest, id) = (&after[len..], id.wrapping_add(1));
    }
    all
}
