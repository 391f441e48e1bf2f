//! The card is given back after a process that used it was killed: the vendor's driver must find it as after a reset. At the end
//! the card is bound again.

use memmap2::{MmapOptions, MmapRaw};
use std::fs::{self, File};
use std::process::Command;
use xdma::card::{CardName, CardOptions};
use xdma::channel::{ChannelOptions, Ring};
use xdma::regs::{Direction, MAX_CHANNELS};
use xdma::unstable::card::registers;
use xdma_emulator::{Options, Profile};
use xdma_testkit::bench::{Bench, LIMIT};
use xdma_testkit::process;

const FETCH_HALT: usize = 0x6010;
const CREDIT_MODE: usize = 0x6020;

/// Transfers without end on a channel with credits.
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

/// What `vfio-setup` says.
fn setup(arguments: &[&str]) -> String {
    let output = Command::new("vfio-setup").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// The XDMA registers of a function that no driver has.
struct Registers(MmapRaw);

impl Registers {
    fn open(function: &str, profile: Profile) -> Self {
        let directory = format!("/sys/bus/pci/devices/{function}");
        fs::write(format!("{directory}/enable"), "1").unwrap();
        let bar = if profile == Profile::F1 { 2 } else { 1 };
        let file = File::options().read(true).write(true).open(format!("{directory}/resource{bar}")).unwrap();
        Self(MmapOptions::new().len(0x1_0000).map_raw(&file).unwrap())
    }

    fn read(&self, offset: usize) -> u32 {
        assert!(offset + 4 <= self.0.len() && offset.is_multiple_of(4));
        // SAFETY: the aligned word lies inside the mapping, which lives as long as `self`; it is only read, and volatile.
        unsafe { self.0.as_ptr().add(offset).cast::<u32>().read_volatile() }
    }
}

/// Control registers that are not at their reset value, which is zero for each of them.
fn left_behind(registers: &Registers) -> Vec<(usize, u32)> {
    const CONTROL: usize = 0x04;
    const INTERRUPT_ENABLE: usize = 0x90;
    let channels =
        [0x0000, 0x1000].into_iter().flat_map(|base| (0..MAX_CHANNELS).map(move |n| base + n * 0x100));
    let of_channels = channels.flat_map(|base| [base + CONTROL, base + INTERRUPT_ENABLE]);
    let all = of_channels.chain([FETCH_HALT, CREDIT_MODE]).map(|offset| (offset, registers.read(offset)));
    all.filter(|(_, value)| *value != 0).collect()
}

#[test]
fn after_a_kill_the_kernel_gets_a_card_at_rest() {
    const TEST: &str = "returning::after_a_kill_the_kernel_gets_a_card_at_rest";
    if process::is(TEST) {
        return transfer_until_killed();
    }
    let bench = Bench::memory(Options::default());
    let CardName::Pci(address) = bench.name() else { panic!("a PCI function was named") };
    let function = address.to_string();
    let mut user = process::start(&bench.name(), TEST, TEST);
    process::await_word(&mut user, "running");
    user.kill().unwrap();
    user.wait().unwrap();
    // What is left of a killed process depends on what the kernel could reset since: the worst of it is put there by hand.
    let card = bench.try_open(CardOptions { as_found: true, ..CardOptions::default() }).unwrap();
    for set_bits in [FETCH_HALT + 4, CREDIT_MODE + 4] {
        registers(&card).write32(set_bits as u64, 0x000f_000f).unwrap();
    }
    drop(card);
    let said = setup(&["unbind", &function]);
    assert!(said.contains("through VFIO and close it") && !said.contains("without being quiesced"), "{said}");
    let registers = Registers::open(&function, bench.options().profile);
    assert_ne!(registers.read(0), u32::MAX, "the registers answer");
    let left = left_behind(&registers);
    drop(registers);
    fs::write(format!("/sys/bus/pci/devices/{function}/enable"), "0").unwrap();
    let mut bind = vec!["bind", "--group", "fpga", &*function];
    bind.extend((std::env::var("XDMA_VFIO").as_deref() == Ok("noiommu")).then_some("--no-iommu"));
    setup(&bind);
    assert!(left.is_empty(), "{left:#x?}");
}
