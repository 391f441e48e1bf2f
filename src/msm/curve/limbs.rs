//! Arithmetic on 256-bit numbers of four 64-bit limbs, least significant first, as far as the checks of this module need it.

pub(super) type Limbs = [u64; 4];

/// p, the modulus of BN254's coordinates.
pub(super) const P: Limbs =
    [0x3c20_8c16_d87c_fd47, 0x9781_6a91_6871_ca8d, 0xb850_45b6_8181_585d, 0x3064_4e72_e131_a029];
/// r, the order of BN254 and modulus of its scalars.
pub(super) const R: Limbs =
    [0x43e1_f593_f000_0001, 0x2833_e848_79b9_7091, 0xb850_45b6_8181_585d, 0x3064_4e72_e131_a029];
/// -1/p modulo 2^64.
const P_INVERSE: u64 = 0x87d2_0782_e486_6389;
/// 3 in Montgomery form: the b of y^2 = x^3 + b.
pub(super) const B: Limbs =
    [0x7a17_caa9_50ad_28d7, 0x1f6a_c17a_e155_21b9, 0x334b_ea4e_696b_d284, 0x2a1f_6744_ce17_9d8e];

/// Reads 32 little-endian bytes; further bytes are ignored.
pub(super) fn read(bytes: &[u8]) -> Limbs {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        *limb = u64::from_le_bytes(word);
    }
    limbs
}

pub(super) fn below(value: &Limbs, bound: &Limbs) -> bool {
    value.iter().rev().lt(bound.iter().rev())
}

/// Returns `a - b` modulo 2^256.
pub(super) fn subtract(a: &Limbs, b: &Limbs) -> Limbs {
    let mut borrow = false;
    std::array::from_fn(|i| {
        let (difference, under) = a[i].overflowing_sub(b[i]);
        let (difference, under_again) = difference.overflowing_sub(u64::from(borrow));
        borrow = under || under_again;
        difference
    })
}

/// Returns `a + b` modulo p; both are below p.
pub(super) fn add(a: &Limbs, b: &Limbs) -> Limbs {
    let mut carry = false;
    // The sum is below 2^255, so there is no carry out.
    let sum = std::array::from_fn(|i| {
        let (sum, over) = a[i].overflowing_add(b[i]);
        let (sum, over_again) = sum.overflowing_add(u64::from(carry));
        carry = over || over_again;
        sum
    });
    if below(&sum, &P) { sum } else { subtract(&sum, &P) }
}

/// Returns `a * b / 2^256` modulo p; both are below p (Koç, Acar, Kaliski 1996: coarsely integrated operand scanning).
pub(super) fn multiply(a: &Limbs, b: &Limbs) -> Limbs {
    let mut t = [0; 4];
    for &digit in b {
        let mut high = 0;
        for i in 0..4 {
            (t[i], high) = multiply_add(t[i], a[i], digit, high);
        }
        let m = t[0].wrapping_mul(P_INVERSE);
        let (_, mut carry) = multiply_add(t[0], m, P[0], 0);
        for i in 1..4 {
            (t[i - 1], carry) = multiply_add(t[i], m, P[i], carry);
        }
        // The running sum stays below 2p < 2^255, so this is the last limb.
        t[3] = high + carry;
    }
    if below(&t, &P) { t } else { subtract(&t, &P) }
}

/// Returns the low and the high limb of `sum + a * b + carry`.
fn multiply_add(sum: u64, a: u64, b: u64, carry: u64) -> (u64, u64) {
    let wide = u128::from(sum) + u128::from(a) * u128::from(b) + u128::from(carry);
    (wide as u64, (wide >> 64) as u64)
}
