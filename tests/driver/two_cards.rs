//! Two cards in one process. Each refuses memory, programs and tickets of the other, without side effects.

use std::sync::Arc;
use xdma::card::{Card, CardOptions};
use xdma::channel::{
    Channel, ChannelOptions, InvalidTransfer, PollError, Pool, ProgramError, SubmitError, TransferError,
    Transfers,
};
use xdma::memory::Buffer;
use xdma::msm::{DataError, JobError, Msm, MsmOptions, Points, PrepareError, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma_emulator::EmulatorOptions;
use xdma_emulator::logic::{Design, Loopback, Memory, MsmModel as MsmLogic, MsmModelOptions as Model};
use xdma_testkit::bench::{Bench, LIMIT};

const BOTH: [Direction; 2] = [Direction::H2C, Direction::C2H];

fn other_card() -> Card {
    xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())
        .unwrap()
}

fn channel(card: &Card, direction: Direction) -> Channel {
    card.channel(direction, 0, ChannelOptions::default()).unwrap()
}

/// Checks that a submission was refused because of foreign memory.
#[track_caller]
fn foreign<T: std::fmt::Debug>(result: Result<T, SubmitError>) {
    assert!(matches!(result, Err(SubmitError::Invalid(InvalidTransfer::ForeignMemory))), "{result:?}");
}

fn list(memory: &Buffer, direction: Direction) -> Transfers {
    let mut transfers = Transfers::new(direction);
    transfers.add(memory, 0..64, 0).unwrap();
    transfers.add(memory, 64..128, 0x1000).unwrap();
    transfers
}

#[test]
fn memory_of_another_card_is_refused() {
    let bench = Bench::memory(EmulatorOptions::default());
    let (card, other) = (bench.open(), other_card());
    for direction in BOTH {
        let mut own_channel = channel(&card, direction);
        let foreign_buffer = other.allocate(4096, direction).unwrap();
        let vector = other.register(vec![0u8; 10_000], direction).unwrap();
        foreign(own_channel.submit(&foreign_buffer, 0..4096, 0));
        foreign(own_channel.submit(&vector, 0..10_000, 0));
        foreign(own_channel.transfer(&foreign_buffer, 1..2, 0, LIMIT).map_err(|error| match error {
            TransferError::Submit(error) => error,
            other => panic!("{other}"),
        }));
        foreign(own_channel.start(&list(&foreign_buffer, direction)));
        let built = own_channel.program(&list(&foreign_buffer, direction));
        assert!(matches!(built, Err(ProgramError::Invalid(InvalidTransfer::ForeignMemory))), "{built:?}");
        let mut own_list = list(&card.allocate(4096, direction).unwrap(), direction);
        let added = own_list.add(&foreign_buffer, 0..1, 0).map(drop);
        assert!(matches!(added, Err(InvalidTransfer::ForeignMemory)), "{added:?}");
        assert_eq!(own_list.descriptors(), 2, "the list is unchanged");
        assert_eq!((own_channel.in_flight(), own_channel.stats().submitted), (0, 0));
        let mut pool = Pool::new(vec![own_channel]).unwrap();
        foreign(pool.submit(&foreign_buffer, 0..4096, 0));
    }
}

#[test]
fn a_program_of_another_card_is_refused() {
    let bench = Bench::memory(EmulatorOptions::default());
    let (card, other) = (bench.open(), other_card());
    for direction in BOTH {
        let memory = other.allocate(4096, direction).unwrap();
        let program = channel(&other, direction).program(&list(&memory, direction)).unwrap();
        let ran = channel(&card, direction).run(&program);
        assert!(matches!(ran, Err(SubmitError::WrongChannel)), "{ran:?}");
    }
}

#[test]
fn slices_borrowed_by_another_card_are_refused() {
    let bench = Bench::memory(EmulatorOptions::default());
    let (card, other) = (bench.open(), other_card());
    let (mut its, mut others) = (channel(&card, Direction::H2C), channel(&other, Direction::H2C));
    let data = vec![1u8; 10_000];
    its.scope(LIMIT, |scope| -> Result<(), Box<dyn std::error::Error>> {
        let borrowed = scope.borrow(&data)?;
        foreign(others.submit(&*borrowed, 0..10_000, 0));
        Ok(())
    })
    .unwrap();
}

#[test]
fn packets_of_another_card_are_refused() {
    let bench = Bench::new(EmulatorOptions::default().with_streams(), Design::Loopback);
    let streams = EmulatorOptions::default().with_streams();
    let other =
        xdma_emulated_card::start(streams, Arc::new(Loopback::new()), CardOptions::default()).unwrap();
    let mut sender = bench.open().stream_h2c(0, ChannelOptions::default()).unwrap();
    foreign(sender.send(&other.allocate(64, Direction::H2C).unwrap(), 0..64));
}

#[test]
fn points_and_scalars_of_another_card_are_refused() {
    let bench = Bench::new(EmulatorOptions::default(), Design::Msm(Model::default()));
    let (card, other) = (bench.open(), other_card());
    let msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let points = |card| Points::from_bytes(card, &[0; 64 * 10]).unwrap();
    let scalars = |card| Scalars::from_bytes(card, &[0; 32 * 10], ScalarForm::Canonical).unwrap();
    for (points, scalars) in [
        (points(&other), scalars(&card)),
        (points(&card), scalars(&other)),
        (points(&other), scalars(&other)),
    ] {
        let prepared = msm.prepare(&points, &scalars).map(drop);
        // A list refuses memory of two cards; the channel refuses a list of the other card.
        let refusal = match &prepared {
            Err(PrepareError::Data(DataError::Invalid(refusal))) => refusal,
            Err(PrepareError::Program(ProgramError::Invalid(refusal))) => refusal,
            other => panic!("{other:?}"),
        };
        assert!(matches!(refusal, InvalidTransfer::ForeignMemory), "{prepared:?}");
    }
}

/// Tickets are numbers, which start at the same value on every card.
#[test]
fn tickets_of_another_card_are_refused() {
    let (card, other) = (other_card(), other_card());
    let tickets = |card: &Card| {
        let mut its = channel(card, Direction::H2C);
        let memory = card.allocate(64, Direction::H2C).unwrap();
        let ticket = its.submit(&memory, 0..64, 0).unwrap();
        (its, ticket)
    };
    let ((mut its, ticket), (_others, foreign)) = (tickets(&card), tickets(&other));
    its.wait(ticket, LIMIT).unwrap();
    assert!(matches!(its.poll(foreign), Err(PollError::ForeignTicket)));

    // A pool of two channels must refuse tickets for the last channel of a pool of four.
    let pool = |card: &Card, count| {
        let open = |index| card.channel(Direction::C2H, index, ChannelOptions::default()).unwrap();
        Pool::new((0..count).map(open).collect()).unwrap()
    };
    let (mut four, mut two) = (pool(&card, 4), pool(&other, 2));
    let memory = card.allocate(64, Direction::C2H).unwrap();
    let tickets = [(); 4].map(|()| four.submit(&memory, 0..64, 0).unwrap());
    for ticket in tickets {
        four.wait(ticket, LIMIT).unwrap();
        assert!(matches!(two.poll(ticket), Err(PollError::ForeignTicket)));
    }
}

#[test]
fn results_of_another_card_are_refused() {
    let clients: [_; 2] = std::array::from_fn(|_| {
        let logic = Arc::new(MsmLogic::new(Model::default()));
        let card =
            xdma_emulated_card::start(EmulatorOptions::default(), logic, CardOptions::default()).unwrap();
        Msm::open(&card, MsmOptions::default()).unwrap()
    });
    let jobs = clients.map(|mut msm| {
        let points = Points::from_bytes(msm.card(), &[0; 64 * 10]).unwrap();
        let scalars = Scalars::from_bytes(msm.card(), &[0; 32 * 10], ScalarForm::Canonical).unwrap();
        let job = msm.prepare(&points, &scalars).unwrap();
        let ticket = msm.submit(&job).unwrap();
        (msm, ticket)
    });
    let [(mut msm, own), (_other, foreign)] = jobs;
    assert!(matches!(msm.poll_accepted(foreign), Err(JobError::ForeignTicket)));
    assert!(matches!(msm.poll(foreign), Err(JobError::ForeignTicket)));
    assert!(matches!(msm.wait(foreign, LIMIT), Err(JobError::ForeignTicket)));
    msm.wait(own, LIMIT).unwrap();
}

#[test]
fn each_card_has_its_own_device_addresses() {
    let open = |address_seed| {
        let options = CardOptions { address_seed, ..CardOptions::default() };
        xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), options).unwrap()
    };
    let address = |card: &Card| card.allocate(2 << 20, Direction::H2C).unwrap().address();
    let cards: Vec<_> = (0..6).map(|_| open(None)).collect();
    let mut all: Vec<_> = cards.iter().map(address).collect();
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[1] - pair[0] >= 1 << 40), "{all:x?}");
    let report = cards[0].report().unwrap();
    let base = report.address_base.unwrap();
    assert!(report.to_string().contains(&format!("starting at {base:#x}")), "{report}");
    assert_eq!(address(&open(Some(7))), address(&open(Some(7))));
    assert_ne!(address(&open(Some(7))), address(&open(Some(8))));
}
