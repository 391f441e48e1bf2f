//! The operators and conversions that arkworks requires of a group's types. All of them delegate to the wrapped types.

macro_rules! impl_operators {
    ($affine:ident: $ark_affine:ty, $group:ident: $ark_group:ty, $config:ty) => {
        use ark_std::Zero;
        use ark_std::rand::Rng;
        use ark_std::rand::distributions::{Distribution, Standard};
        use std::borrow::Borrow;
        use std::fmt;
        use std::iter::Sum;
        use std::ops::{Add, AddAssign, Mul, MulAssign, Neg, Sub, SubAssign};
        use zeroize::Zeroize;

        impl Zero for $group {
            fn zero() -> Self {
                Self::ZERO
            }

            fn is_zero(&self) -> bool {
                self.0.is_zero()
            }
        }

        impl From<$affine> for $group {
            fn from(point: $affine) -> Self {
                Self(point.0.into())
            }
        }

        impl From<$group> for $affine {
            fn from(point: $group) -> Self {
                Self(point.0.into())
            }
        }

        impl From<Bucket<$config>> for $group {
            fn from(bucket: Bucket<$config>) -> Self {
                Self(bucket.into())
            }
        }

        // The operators of `Bucket` accept every type that borrows as an affine point.
        impl Borrow<$ark_affine> for $affine {
            fn borrow(&self) -> &$ark_affine {
                &self.0
            }
        }

        impl Borrow<$ark_affine> for &$affine {
            fn borrow(&self) -> &$ark_affine {
                &self.0
            }
        }

        impl AddAssign<&Bucket<$config>> for $group {
            fn add_assign(&mut self, bucket: &Bucket<$config>) {
                self.0 += bucket;
            }
        }

        impl<T: Borrow<Fr>> MulAssign<T> for $group {
            fn mul_assign(&mut self, by: T) {
                self.0 *= by.borrow();
            }
        }

        crate::curve::operators::impl_assign_ops! { $group:
            AddAssign add_assign $group;
            AddAssign add_assign &'a $group;
            AddAssign add_assign &'a mut $group;
            AddAssign add_assign $affine;
            AddAssign add_assign &'a $affine;
            SubAssign sub_assign $group;
            SubAssign sub_assign &'a $group;
            SubAssign sub_assign &'a mut $group;
            SubAssign sub_assign $affine;
            SubAssign sub_assign &'a $affine;
        }
        crate::curve::operators::impl_binary_ops! { $group:
            Add add add_assign $group: $group, &'a $group, &'a mut $group, $affine, &'a $affine;
            Sub sub sub_assign $group: $group, &'a $group, &'a mut $group, $affine, &'a $affine;
            Mul mul mul_assign $group: Fr, &'a Fr, &'a mut Fr;
            Add add add_assign $affine: $group, &'a $group, $affine, &'a $affine;
            Sub sub sub_assign $affine: $group, &'a $group, $affine, &'a $affine;
            Mul mul mul_assign $affine: Fr, &'a Fr;
        }
        crate::curve::operators::impl_common_traits! { $group: $affine: $ark_affine, $group: $ark_group }
    };
}

/// Implements the assignment operators.
macro_rules! impl_assign_ops {
    ($group:ident: $($operator:ident $method:ident $right:ty;)*) => {$(
        impl<'a> $operator<$right> for $group {
            fn $method(&mut self, right: $right) {
                self.0.$method(right.0);
            }
        }
    )*};
}

/// Implements the binary operators, which return a projective point.
macro_rules! impl_binary_ops {
    ($group:ident: $($operator:ident $method:ident $assign:ident $left:ty: $($right:ty),*;)*) => {$($(
        impl<'a> $operator<$right> for $left {
            type Output = $group;

            fn $method(self, right: $right) -> $group {
                let mut left = $group::from(self);
                left.$assign(right);
                left
            }
        }
    )*)*};
}

/// Implements the traits that affine and projective points have in common.
macro_rules! impl_common_traits {
    ($group:ident: $($point:ident: $ark_point:ty),*) => {$(
        impl Neg for $point {
            type Output = Self;

            fn neg(self) -> Self {
                Self(-self.0)
            }
        }

        impl fmt::Display for $point {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $point {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Zeroize for $point {
            fn zeroize(&mut self) {
                self.0.zeroize();
            }
        }

        impl Distribution<$point> for Standard {
            fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> $point {
                $point(<Self as Distribution<$ark_point>>::sample(self, rng))
            }
        }

        impl From<$ark_point> for $point {
            fn from(point: $ark_point) -> Self {
                Self(point)
            }
        }

        impl From<$point> for $ark_point {
            fn from(point: $point) -> Self {
                point.0
            }
        }

        impl Sum<$point> for $group {
            fn sum<I: Iterator<Item = $point>>(points: I) -> Self {
                points.fold(Self::ZERO, |sum, point| sum + point)
            }
        }

        impl<'a> Sum<&'a $point> for $group {
            fn sum<I: Iterator<Item = &'a $point>>(points: I) -> Self {
                points.fold(Self::ZERO, |sum, point| sum + point)
            }
        }
    )*};
}

pub(super) use {impl_assign_ops, impl_binary_ops, impl_common_traits, impl_operators};
