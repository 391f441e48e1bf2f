//! Unit tests of modules of the design.

mod digits;
mod ec_add;
mod fifo;
mod fp_mul;

use halo2curves::bn256::Fq;
use rand::{RngExt, rngs::StdRng};

/// p, as limbs.
const P: [u64; 4] = [0x3c208c16d87cfd47, 0x97816a916871ca8d, 0xb85045b68181585d, 0x30644e72e131a029];

fn bytes(limbs: [u64; 4]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (limb, to) in limbs.iter().zip(bytes.chunks_exact_mut(8)) {
        to.copy_from_slice(&limb.to_le_bytes());
    }
    bytes
}

fn limbs(bytes: &[u8]) -> [u64; 4] {
    std::array::from_fn(|i| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().unwrap()))
}

/// Returns a + b, which must fit in 256 bits.
fn add(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    let mut carry = 0;
    std::array::from_fn(|i| {
        let sum = a[i] as u128 + b[i] as u128 + carry;
        carry = sum >> 64;
        sum as u64
    })
}

/// Returns a - b, where b is not greater than a.
fn subtract(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    add(add(a, b.map(|limb| !limb)), [1, 0, 0, 0])
}

fn less(a: [u64; 4], b: [u64; 4]) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

/// Returns the element with these Montgomery limbs, which may be either representative below 2p.
fn element(value: [u64; 4]) -> Fq {
    assert!(less(value, add(P, P)), "{value:x?} is not below 2p");
    Fq(if less(value, P) { value } else { subtract(value, P) })
}

/// Returns one of the element's two representatives below 2p, chosen at random.
fn representative(element: Fq, random: &mut StdRng) -> [u64; 4] {
    if random.random() { element.0 } else { add(element.0, P) }
}
