//! The client side of a vfio-user socket, with a server that sends arbitrary data.

use crate::bus::Bus;
use crate::bus::vfio_user::VfioUser;
use crate::memory::Mapper;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Uses any bytes as the replies to a client that connects, reads, and uses a card.
pub fn replies(bytes: &[u8]) {
    let (client, mut server) = UnixStream::pair().expect("there are sockets");
    server.set_nonblocking(true).expect("it is a socket");
    // Data that does not fit was not requested.
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
    let _ = bus.set_interrupts(crate::bus::InterruptKind::Msix, &[]);
}

/// Builds messages. A byte whose lowest bit is set is replaced by the header of a reply to the next request, with the other
/// bits as the size of the payload that follows; after any other byte, up to 16 bytes are copied unchanged.
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
