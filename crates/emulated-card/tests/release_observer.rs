//! The emulated card receives reports about the driver's memory.

use std::sync::Arc;
use xdma::memory::{Access, Buffer, HugePages};
use xdma::unstable::bus::Bus;
use xdma::unstable::bus::vfio_user::VfioUser;
use xdma::unstable::memory::DmaSpace;
use xdma_emulator::logic::Memory;
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions, Rule};
use xdma_regs::descriptor::{Descriptor, Flags};

fn rules(card: &EmulatedCard) -> Vec<(Rule, u64)> {
    card.violations().iter().map(|violation| (violation.rule, violation.address)).collect()
}

#[test]
fn allocations_and_releases_are_reported() {
    let options = EmulatorOptions { card: CardFile::alveo(), ..EmulatorOptions::default() };
    let card = EmulatedCard::start(options, Arc::new(Memory::new())).unwrap();
    let bus = Arc::new(VfioUser::connect(card.socket()).unwrap());
    let space = DmaSpace::new(bus.clone(), HugePages::default(), None, None)
        .with_observer(xdma_emulated_card::observer(&card));
    bus.config_write(4, 2, 6).unwrap();
    let xdma = bus.bar(1).unwrap();
    let mut list = space.allocate(32, Access::CardReads).unwrap();
    let transfer = |memory: u64, list: &mut Buffer| {
        let flags = Flags::STOP | Flags::COMPLETED;
        let only =
            Descriptor { flags, next_adjacent: 0, length: 64, source: memory, destination: 0, next: 0 };
        list.write(0, &only.to_words()).unwrap();
        for (register, value) in
            [(0x4080, list.address() as u32), (0x4084, (list.address() >> 32) as u32), (0x4, 0), (0x4, 1)]
        {
            xdma.write32(register, value).unwrap();
        }
        while xdma.read32(0x40).unwrap() & 1 != 0 {
            std::thread::yield_now();
        }
    };
    let memory = space.allocate(64, Access::CardReads).unwrap();
    let address = memory.address();
    transfer(address, &mut list);
    assert_eq!(rules(&card), []);
    drop(memory);
    transfer(address, &mut list);
    assert_eq!(rules(&card), [(Rule::ReleasedMemory, address)]);
}
