//! The functions that the fuzz targets run (`fuzz/`, `cargo xtask fuzz`). Each accepts any bytes, and panics if it detects a
//! fault. Tests run the same functions on the corpora and on inputs generated from seeds, without instrumentation.

#[cfg(all(feature = "arkworks", feature = "halo2curves"))]
mod points;
mod replies;

#[cfg(all(feature = "arkworks", feature = "halo2curves"))]
pub use points::points;
pub use replies::replies;

#[cfg(test)]
mod tests {
    use xdma_testkit::corpus::replay;

    #[cfg(all(feature = "arkworks", feature = "halo2curves"))]
    #[test]
    fn points() {
        replay("points", super::points);
    }

    #[test]
    fn replies() {
        replay("replies", super::replies);
    }
}
