//! Points, scalars and results in bytes: two curve libraries and the driver's own checks must agree on them.

use crate::msm::curve::{arkworks, check_points, check_scalars, halo2curves};

/// Interprets any bytes as points, as scalars in both forms, and as a result.
pub fn points(bytes: &[u8]) {
    agree(check_points(bytes).is_ok(), arkworks::points_from_bytes(bytes).is_ok());
    agree(check_points(bytes).is_ok(), halo2curves::points_from_bytes(bytes).is_ok());
    if let Ok(points) = arkworks::points_from_bytes(bytes) {
        let mut back = vec![0; bytes.len()];
        arkworks::points_to_bytes(&points, &mut back).expect("as many as were read");
        assert_eq!(back, bytes);
    }
    scalars(bytes);
    if let Some(result) = bytes.first_chunk() {
        agree(arkworks::result_to_point(result).is_ok(), halo2curves::result_to_point(result).is_ok());
    }
}

fn scalars(bytes: &[u8]) {
    agree(check_scalars(bytes).is_ok(), arkworks::scalars_from_bytes(bytes).is_ok());
    agree(check_scalars(bytes).is_ok(), halo2curves::scalars_from_bytes(bytes).is_ok());
    agree(check_scalars(bytes).is_ok(), arkworks::scalars_from_canonical_bytes(bytes).is_ok());
    if let Ok(scalars) = arkworks::scalars_from_canonical_bytes(bytes) {
        let mut back = vec![0; bytes.len()];
        arkworks::scalars_to_canonical_bytes(&scalars, &mut back).expect("as many as were read");
        assert_eq!(back, bytes);
    }
}

fn agree(ours: bool, theirs: bool) {
    assert_eq!(ours, theirs, "one accepts it and the other does not");
}
