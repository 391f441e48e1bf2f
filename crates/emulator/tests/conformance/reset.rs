//! The state after a function level reset, as the PCI Express specification and the XDMA register descriptions define it.

use crate::host::{COMPLETED, STOP};
use crate::raw::Raw;
use crate::rig::{LIST, Rig, c2h, channels, h2c, pieces, synchronous};
use xdma_emulator::{CardFile, EmulatorOptions};

fn with_reset() -> EmulatorOptions {
    synchronous().with_function_reset(true)
}

/// Writes to all writable registers, and moves some data.
fn use_it(rig: &mut Rig) {
    for channel in channels() {
        let list = pieces(2, 64);
        let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
        rig.run(channel, LIST, adjacent, 0x04f8_3e1e);
        rig.write(channel.base + 0x90, 0x00f8_3e16);
        rig.write(channel.base + 0x88, 0x1000);
        rig.write(channel.base + 0xc0, 0x5);
    }
    rig.write(0x6024, 0x000f_000f);
    rig.write(0x6014, 0x0008_0008);
    rig.write(0x408c, 5);
    rig.write(0x2008, 0xffff);
    rig.write(0x2014, 0xff);
    rig.write(0x2080, 0x0b0a_0908);
    rig.write(0x20a0, 0x0302_0100);
    rig.write(0x301c, 0);
    rig.write(0x3060, 0x1f);
    let msix = rig.capability(0x11).unwrap();
    rig.config_write(msix + 2, &0x8000u16.to_le_bytes());
    rig.write(0x8000, 0xfee0_0000);
    rig.write(0x800c, 0);
    rig.fabric.poke(0x5000, &[1, 2, 3]);
}

fn is_fresh(rig: &mut Rig) {
    for channel in channels() {
        for at in [0x04, 0x40, 0x44, 0x48, 0x88, 0x8c, 0x90, 0xc0, 0xc4, 0xcc] {
            assert_eq!(rig.read(channel.base + at), 0, "at {:#x}", channel.base + at);
        }
        for at in [0x80, 0x84, 0x88, 0x8c] {
            assert_eq!(rig.read(channel.sgdma + at), 0, "at {:#x}", channel.sgdma + at);
        }
    }
    for at in [0x2004, 0x2010, 0x2040, 0x2044, 0x2048, 0x204c, 0x2080, 0x20a0, 0x3060, 0x6010, 0x6020, 0x8fe0]
    {
        assert_eq!(rig.read(at), 0, "at {at:#x}");
    }
    assert_eq!(rig.read(0x301c), 1);
    assert_eq!(rig.read(0x800c) & 1, 1, "vectors are masked");
}

/// Returns the parts of configuration space that a reset may affect: Command, MSI-X Message Control, DevCtl, and the MSI enables
/// in 0x3014.
fn configuration(rig: &mut Rig) -> [u32; 4] {
    let [msix, pcie] = [0x11, 0x10].map(|id| rig.capability(id).unwrap());
    let control = rig.config16(msix + 2) & 0xc000;
    [
        u32::from(rig.config16(0x04) & 0x0406),
        u32::from(control),
        u32::from(rig.config16(pcie + 8)),
        rig.read(0x3014),
    ]
}

fn works(rig: &mut Rig) {
    rig.config_write(0x04, &0x0006u16.to_le_bytes());
    for channel in [h2c(0), c2h(3)] {
        let list = pieces(3, 500);
        let expected = rig.fill(channel, &list, 77);
        let adjacent = rig.lay(channel, LIST, &list, 0, STOP | COMPLETED);
        rig.run(channel, LIST, adjacent, 0x1e);
        assert_eq!((rig.read(channel.base + 0x44), rig.read(channel.base + 0x48)), (0x06, 3));
        rig.check(channel, &list, &expected);
    }
}

#[test]
fn a_device_reset_restores_the_initial_state() {
    for card in [CardFile::f1(), CardFile::alveo()] {
        let mut rig = Rig::exactly(EmulatorOptions { card, ..synchronous() }.with_function_reset(true));
        use_it(&mut rig);
        let before = configuration(&mut rig);
        rig.client.reset().expect("reset");
        is_fresh(&mut rig);
        // As with VFIO_DEVICE_RESET, where the kernel saves and restores configuration space.
        assert_eq!(configuration(&mut rig), before);
        assert_eq!(rig.fabric.resets(), 1);
        assert_eq!(rig.fabric.peek(0x5000, 3), [1, 2, 3], "memory behind the port keeps its contents");
        works(&mut rig);
    }
}

#[test]
fn a_function_level_reset_restores_the_initial_state() {
    let mut rig = Rig::exactly(with_reset());
    let pcie = rig.capability(0x10).unwrap();
    use_it(&mut rig);
    let control = rig.config16(pcie + 8);
    rig.config_write(pcie + 8, &(control | 0x8000).to_le_bytes());
    is_fresh(&mut rig);
    let [command, msix, control, enables] = configuration(&mut rig);
    assert_eq!(
        (command, msix, control & 0x8000, enables),
        (0, 0, 0, 0),
        "configuration space is not restored"
    );
    works(&mut rig);
}

#[test]
fn without_function_reset_the_bit_does_nothing() {
    let mut rig = Rig::new(synchronous());
    let pcie = rig.capability(0x10).unwrap();
    rig.write(0x88, 0x1234_5678);
    let control = rig.config16(pcie + 8);
    rig.config_write(pcie + 8, &(control | 0x8000).to_le_bytes());
    assert_eq!(rig.read(0x88), 0x1234_5678);
    assert_eq!(rig.config16(pcie + 8) & 0x8000, 0);
}

/// `VFIO_DEVICE_FLAGS_RESET`, bit 0 of GET_INFO's flags.
#[test]
fn the_device_reports_whether_it_can_be_reset() {
    for function_reset in [false, true] {
        let mut rig = Rig::new(synchronous().with_function_reset(function_reset));
        let mut raw = Raw::instead_of(&mut rig);
        let info = raw.call(4, &[16u32.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat()).expect("GET_INFO");
        let flags = u32::from_le_bytes(info[4..8].try_into().unwrap());
        assert_eq!(flags & 0x3, 0x2 | u32::from(function_reset), "PCI, and reset");
    }
}

/// A reset in the middle of an endless list.
#[test]
fn a_reset_stops_running_engines() {
    let mut rig = Rig::exactly(EmulatorOptions::default().with_function_reset(true));
    for channel in [h2c(0), c2h(1)] {
        let at = LIST + 0x1000 * channel.number;
        let piece = pieces(1, 4096)[0];
        rig.host.put(at, piece.descriptor(&rig.host, channel, 0, 0, rig.host.at(at)));
        rig.go(channel, at, 0, 0x1e);
        rig.until("it runs", |rig| rig.read(channel.base + 0x48) > 10);
    }
    rig.client.reset().expect("reset");
    is_fresh(&mut rig);
    let calls = rig.fabric.calls().len();
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(rig.fabric.calls().len(), calls, "all engines have stopped");
    works(&mut rig);
}

/// A new client can use the card, whatever state the previous one left. The previous client's memory is unmapped.
#[test]
fn the_next_client_can_use_the_card() {
    let mut rig = Rig::exactly(synchronous());
    use_it(&mut rig);
    rig.reconnect();
    // A driver must quiesce the card itself, because a reset between two clients is not guaranteed.
    for channel in channels() {
        rig.write(channel.base + 0x04, 0);
        rig.read(channel.base + 0x44);
    }
    rig.write(0x6018, 0x000f_000f);
    rig.write(0x6028, 0x000f_000f);
    works(&mut rig);
}
