//! Files of points and scalars, and what a card returns as a result: two curve libraries and our own checks agree.

use crate::msm::curve::{
    arkworks, check_points, check_scalars, halo2curves, point_is_on_curve, scalar_is_canonical,
};

/// Any bytes as points, as scalars in both forms, and as a result.
pub fn points(bytes: &[u8]) {
    agree(check_points(bytes).is_ok(), arkworks::points_from_bytes(bytes).is_ok());
    agree(check_points(bytes).is_ok(), halo2curves::points_from_bytes(bytes).is_ok());
    if let Ok(points) = arkworks::points_from_bytes(bytes) {
        let mut back = vec![0; bytes.len()];
        arkworks::points_to_bytes(&points, &mut back).expect("as many as were read");
        assert_eq!(back, bytes);
    }
    scalars(bytes);
    if let Some(point) = bytes.first_chunk() {
        agree(point_is_on_curve(point), check_points(point).is_ok());
    }
    if let Some(scalar) = bytes.first_chunk() {
        agree(scalar_is_canonical(scalar), check_scalars(scalar).is_ok());
    }
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
    assert_eq!(ours, theirs, "one takes it and the other does not");
}
