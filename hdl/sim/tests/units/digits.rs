//! Digit recoding: single digits with all edge cases, and whole scalars recomposed from their digits.

use halo2curves::bn256::Fr;
use halo2curves::ff::{Field, PrimeField};
use xdma_rtl::{Top, Unit};

/// The values of `C` in the test top.
const WIDTHS: [u32; 4] = [3, 8, 13, 16];

/// Returns the digit and the carry that the design computes from these bits.
fn digit(unit: &mut Unit, width: usize, bits: u32, carry: bool) -> (i64, bool) {
    unit.input[..2].copy_from_slice(&(bits as u16).to_le_bytes());
    unit.input[2] = carry as u8;
    unit.step();
    let output = &unit.output[3 * width..3 * width + 3];
    let bucket = i64::from(u16::from_le_bytes([output[0], output[1]]));
    let [zero, negative, carry] = [1, 2, 4].map(|flag| output[2] & flag != 0);
    let magnitude = if zero { 0 } else { bucket + 1 };
    (if negative { -magnitude } else { magnitude }, carry)
}

#[test]
fn digit_and_carry_equal_their_bits() {
    let mut unit = Unit::new(Top::Parts);
    for (i, width) in WIDTHS.into_iter().enumerate() {
        let (size, half) = (1i64 << width, 1i64 << (width - 1));
        for bits in (0..1u32 << width)
            .filter(|b| width < 9 || b % 61 == 0 || *b + 3 > 1 << width || b.abs_diff(half as u32) < 3)
        {
            for carry_in in [false, true] {
                let (digit, carry) = digit(&mut unit, i, bits, carry_in);
                assert_eq!(digit + size * i64::from(carry), i64::from(bits) + i64::from(carry_in));
                assert!(-half < digit && digit <= half, "{digit} for {bits}");
            }
        }
    }
}

#[test]
fn digits_recompose_the_scalar() {
    let mut unit = Unit::new(Top::Parts);
    let one = Fr::ONE;
    let mut scalars = vec![Fr::ZERO, one, -one, -one - one, Fr::from(u64::MAX)];
    scalars.extend((0..254).map(|k| Fr::from(2).pow([k])));
    scalars.extend((0..254).map(|k| Fr::from(2).pow([k]) - one));
    for (i, width) in WIDTHS.into_iter().enumerate() {
        for scalar in &scalars {
            let bytes = scalar.to_repr();
            let bit = |n: u32| bytes.as_ref().get(n as usize / 8).is_some_and(|b| b >> (n % 8) & 1 != 0);
            let (mut sum, mut weight, mut carry) = (Fr::ZERO, Fr::ONE, false);
            for window in 0..254 / width + 1 {
                let bits = (0..width).map(|n| u32::from(bit(window * width + n)) << n).sum();
                let (digit, next) = digit(&mut unit, i, bits, carry);
                let value = Fr::from(digit.unsigned_abs());
                sum += weight * if digit < 0 { -value } else { value };
                weight *= Fr::from(1 << width);
                carry = next;
            }
            assert!(!carry, "the windows cover every scalar");
            assert_eq!(sum, *scalar);
        }
    }
}
