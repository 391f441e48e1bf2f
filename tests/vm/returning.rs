//! `vfio-setup unbind` after a process that used the card was killed: the vendor's driver must find it as after a reset. And while
//! `vfio-pci` has the card's PCI IDs. The tests bind the card again at the end.

use memmap2::{MmapOptions, MmapRaw};
use std::fs::{self, File};
use std::process::Command;
use xdma::card::{CardName, CardOptions};
use xdma::channel::{ChannelOptions, Ring};
use xdma::regs::{Direction, MAX_CHANNELS};
use xdma::unstable::card::registers;
use xdma_emulator::EmulatorOptions;
use xdma_testkit::bench::{Bench, LIMIT};
use xdma_testkit::process;

const FETCH_HALT: usize = 0x6010;
const CREDIT_MODE: usize = 0x6020;

/// Transfers forever on a channel with credits.
fn transfer_until_killed() {
    let card = process::open().unwrap();
    let options = ChannelOptions { ring: Some(Ring::Credits), ..ChannelOptions::default() };
    let mut channel = card.channel(Direction::H2C, 0, options).unwrap();
    let source = card.allocate(1 << 20, Direction::H2C).unwrap();
    channel.transfer(&source, 0..1 << 20, 0, LIMIT).unwrap();
    println!("running");
    loop {
        channel.transfer(&source, 0..1 << 20, 0, LIMIT).unwrap();
    }
}

/// Runs `vfio-setup`, and returns its output.
fn setup(arguments: &[&str]) -> String {
    let output = Command::new("vfio-setup").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

/// Binds the card again.
fn bind(function: &str) {
    let mut arguments = vec!["bind", "--group", "fpga", function];
    arguments.extend((std::env::var("XDMA_VFIO").as_deref() == Ok("noiommu")).then_some("--no-iommu"));
    setup(&arguments);
}

/// The XDMA registers of a function without a driver.
struct Registers(MmapRaw);

impl Registers {
    fn open(function: &str, bar: usize) -> Self {
        let directory = format!("/sys/bus/pci/devices/{function}");
        fs::write(format!("{directory}/enable"), "1").unwrap();
        let file = File::options().read(true).write(true).open(format!("{directory}/resource{bar}")).unwrap();
        Self(MmapOptions::new().len(0x1_0000).map_raw(&file).unwrap())
    }

    fn read(&self, offset: usize) -> u32 {
        assert!(offset + 4 <= self.0.len() && offset.is_multiple_of(4));
        // SAFETY: the aligned word is inside the mapping, which lives as long as `self`. The read is volatile.
        unsafe { self.0.as_ptr().add(offset).cast::<u32>().read_volatile() }
    }
}

/// Returns the control registers that do not have their reset value, which is zero for all of them.
fn changed_controls(registers: &Registers) -> Vec<(usize, u32)> {
    const CONTROL: usize = 0x04;
    const INTERRUPT_ENABLE: usize = 0x90;
    let channels =
        [0x0000, 0x1000].into_iter().flat_map(|base| (0..MAX_CHANNELS).map(move |n| base + n * 0x100));
    let channel_controls = channels.flat_map(|base| [base + CONTROL, base + INTERRUPT_ENABLE]);
    let all =
        channel_controls.chain([FETCH_HALT, CREDIT_MODE]).map(|offset| (offset, registers.read(offset)));
    all.filter(|(_, value)| *value != 0).collect()
}

#[test]
fn unbinding_quiesces_the_card_of_a_killed_process() {
    const TEST: &str = "returning::unbinding_quiesces_the_card_of_a_killed_process";
    if process::is(TEST) {
        return transfer_until_killed();
    }
    let bench = Bench::memory(EmulatorOptions::default());
    let CardName::Pci(address) = bench.name() else { panic!("XDMA_CARD is not a PCI function") };
    let function = address.to_string();
    let mut child = process::start(&bench.name(), TEST, TEST);
    process::await_word(&mut child, "running");
    child.kill().unwrap();
    child.wait().unwrap();
    // The registers depend on whether the kernel has reset the function. Set them as after a kill without a reset.
    let card = bench.try_open(CardOptions { as_found: true, ..CardOptions::default() }).unwrap();
    for set_bits in [FETCH_HALT + 4, CREDIT_MODE + 4] {
        registers(&card).write32(set_bits as u64, 0x000f_000f).unwrap();
    }
    drop(card);
    let text = setup(&["unbind", &function]);
    assert!(text.contains("through VFIO and close it") && !text.contains("without being quiesced"), "{text}");
    let registers = Registers::open(&function, bench.options().card.register_bar().unwrap());
    assert_ne!(registers.read(0), u32::MAX, "the registers can be read");
    let changed = changed_controls(&registers);
    drop(registers);
    fs::write(format!("/sys/bus/pci/devices/{function}/enable"), "0").unwrap();
    bind(&function);
    assert!(changed.is_empty(), "{changed:#x?}");
}

#[test]
fn what_unbind_suggests_returns_a_card_whose_ids_vfio_pci_has() {
    let CardName::Pci(address) = Bench::memory(EmulatorOptions::default()).name() else {
        panic!("XDMA_CARD is not a PCI function")
    };
    let function = address.to_string();
    let directory = format!("/sys/bus/pci/devices/{function}");
    let id = |name: &str| {
        let text = fs::read_to_string(format!("{directory}/{name}")).unwrap();
        text.trim().trim_start_matches("0x").to_string()
    };
    fs::write("/sys/bus/pci/drivers/vfio-pci/new_id", format!("{} {}", id("vendor"), id("device"))).unwrap();
    let output = Command::new("vfio-setup").args(["unbind", &*function]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("vfio-pci took {function} again")) && text.contains("new_id"), "{text}");
    let driver = || fs::read_link(format!("{directory}/driver")).ok();
    assert!(driver().unwrap().ends_with("vfio-pci"), "the steps were reverted");
    // This is root, and the guest has no sudo.
    let typed = text.split('`').find(|text| text.contains("remove_id")).unwrap().replace("sudo ", "");
    let output = Command::new("sh").args(["-c", &*typed]).output().unwrap();
    assert!(output.status.success(), "{typed}: {output:?}");
    assert_eq!(driver(), None, "{typed}: {output:?}");
    bind(&function);
}
