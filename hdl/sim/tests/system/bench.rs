//! The testbench shared by all tests: the design driven by a host, and pairs with their sums.

use halo2curves::bn256::{Fq, Fr, G1, G1Affine};
use halo2curves::ff::{Field, PrimeField};
use halo2curves::group::{Curve, Group};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use xdma_regs::msm::*;
use xdma_rtl::{Burst, Master, Response, Variant, WriteTag};

/// Time limit of every wait, in clocks.
pub const TIMEOUT: u64 = 50_000_000;

/// 2p.
const P2: [u64; 4] = [0x7841182db0f9fa8e, 0x2f02d522d0e3951a, 0x70a08b6d0302b0bb, 0x60c89ce5c2634053];

pub struct Bench {
    pub master: Master,
}

impl Bench {
    pub fn new(variant: Variant) -> Self {
        Self { master: Master::new(variant) }
    }

    pub fn get(&mut self, register: u32) -> u32 {
        self.master.register(register)
    }

    pub fn get64(&mut self, register: u32) -> u64 {
        u64::from(self.get(register)) | u64::from(self.get(register + 4)) << 32
    }

    pub fn set(&mut self, register: u32, value: u32) {
        self.master.set_register(register, value);
    }

    pub fn push(&mut self, pairs: usize, mode: Mode) {
        self.set(N_ELEMENTS, pairs as u32);
        self.set(MODE, mode.bits());
        self.set(PUSH_TASK, 1);
    }

    /// Queues bytes for a window, in bursts of 4 KiB.
    pub fn queue(&mut self, id: u8, window: u64, bytes: &[u8]) -> Vec<WriteTag> {
        bytes.chunks(4096).map(|piece| self.master.write(id, window, Burst::Increment, piece)).collect()
    }

    /// Queues pairs in chunks of half a FIFO, like the driver's program mode.
    pub fn feed(&mut self, pairs: &Pairs, mode: Mode) {
        let (scalars, points) = (pairs.scalar_bytes(mode), pairs.point_bytes());
        let chunk = self.get(SCALAR_DEPTH).min(self.get(POINT_DEPTH)) as usize / 2;
        for (scalars, points) in scalars.chunks(chunk * 32).zip(points.chunks(chunk * 64)) {
            self.queue(0, SCALAR_WINDOW, scalars);
            self.queue(0, POINT_WINDOW, points);
        }
    }

    /// Performs one write and returns its response.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Response {
        let tag = self.master.write(3, address, Burst::Increment, bytes);
        assert!(self.master.finish(TIMEOUT), "no response to the write to {address:#x}");
        self.master.written(tag).unwrap()
    }

    pub fn read(&mut self, address: u64, burst: Burst, len: usize) -> (Response, Vec<u8>) {
        let tag = self.master.read(5, address, burst, len);
        assert!(self.master.finish(TIMEOUT), "no response to the read of {address:#x}");
        self.master.read_done(tag).unwrap()
    }

    /// Runs until the register has the value.
    pub fn wait(&mut self, register: u32, value: u32) {
        let end = self.master.cycles() + TIMEOUT;
        loop {
            let seen = self.get(register);
            if seen == value {
                return;
            }
            assert!(self.master.cycles() < end, "{register:#x} is {seen:#x}");
            self.master.idle(100);
        }
    }

    /// Reads the oldest result through the window and the registers, pops it, and returns it with its label.
    pub fn result(&mut self) -> (G1, u32) {
        self.wait(RESULT_VALID, 1);
        let (response, bytes) = self.read(RESULT_WINDOW, Burst::Increment, RESULT_BYTES);
        assert_eq!(response, Response::Okay);
        for (word, bytes) in bytes.chunks(4).enumerate() {
            assert_eq!(self.get(RESULT + 4 * word as u32).to_le_bytes(), bytes);
        }
        let label = self.get(RESULT_LABEL);
        self.set(POP_RESULT, 1);
        (decode(&bytes), label)
    }

    /// Aborts, and flushes until no writes are outstanding, since writes that wait for room enter the FIFOs only after a flush.
    pub fn abort_and_flush(&mut self) {
        let ctrl = (Ctrl::ABORT | Ctrl::FLUSH).bits();
        self.set(CTRL, ctrl);
        while self.master.writes_open() > 0 {
            self.master.finish(1000);
            self.set(CTRL, ctrl);
        }
        assert_eq!(self.get(STATUS), 0);
        assert_eq!((self.get(SCALARS_IN_FIFO), self.get(POINTS_IN_FIFO)), (0, 0));
    }

    pub fn run(&mut self, pairs: &Pairs, mode: Mode) -> G1 {
        self.push(pairs.scalars.len(), mode);
        self.feed(pairs, mode);
        self.result().0
    }
}

pub struct Pairs {
    pub scalars: Vec<Fr>,
    pub points: Vec<G1Affine>,
}

impl Pairs {
    /// Creates random pairs. The points are an arithmetic progression, which is fast to compute.
    pub fn random(count: usize, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut any = || Fr::from_raw(std::array::from_fn(|_| random.random()));
        let (mut point, step) = (G1::generator() * any(), G1::generator() * any());
        let points: Vec<G1> = std::iter::repeat_with(|| {
            point += step;
            point
        })
        .take(count)
        .collect();
        let mut affine = vec![G1Affine::default(); count];
        G1::batch_normalize(&points, &mut affine);
        Self { scalars: (0..count).map(|_| any()).collect(), points: affine }
    }

    pub fn sum(&self) -> G1 {
        let terms = self.scalars.iter().zip(&self.points);
        if self.scalars.len() < 64 {
            return terms.map(|(scalar, point)| point * scalar).sum();
        }
        let real = terms.filter(|(_, point)| **point != G1Affine::default());
        let (scalars, points): (Vec<Fr>, Vec<G1Affine>) = real.unzip();
        halo2curves::msm::msm_best(&scalars, &points)
    }

    /// Returns the scalars in whole beats. An odd count is padded with bytes that the design must ignore.
    pub fn scalar_bytes(&self, mode: Mode) -> Vec<u8> {
        let mut bytes: Vec<u8> = match mode.contains(Mode::MONTGOMERY) {
            true => self.scalars.iter().flat_map(|scalar| limb_bytes(scalar.0)).collect(),
            false => self.scalars.iter().flat_map(|scalar| scalar.to_repr().as_ref().to_vec()).collect(),
        };
        bytes.resize(bytes.len().next_multiple_of(BEAT), 0xa5);
        bytes
    }

    pub fn point_bytes(&self) -> Vec<u8> {
        self.points.iter().flat_map(|point| [limb_bytes(point.x.0), limb_bytes(point.y.0)].concat()).collect()
    }
}

pub fn limb_bytes(limbs: [u64; 4]) -> [u8; 32] {
    let mut bytes = [0; 32];
    limbs
        .iter()
        .zip(bytes.chunks_exact_mut(8))
        .for_each(|(limb, to)| to.copy_from_slice(&limb.to_le_bytes()));
    bytes
}

fn decode(result: &[u8]) -> G1 {
    let [x, y, z] = [0, 1, 2].map(|i| {
        let limb = |n: usize| u64::from_le_bytes(result[32 * i + 8 * n..][..8].try_into().unwrap());
        let value: [u64; 4] = std::array::from_fn(limb);
        // Multiplication by one reduces a value of p or more.
        assert!(value.iter().rev().lt(P2.iter().rev()), "a representative below 2p");
        Fq(value) * Fq::ONE
    });
    if z == Fq::ZERO {
        assert!(x == Fq::ZERO && y != Fq::ZERO, "infinity is (0, y, 0)");
        return G1::identity();
    }
    G1 { x, y, z }
}
