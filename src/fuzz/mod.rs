//! What the fuzz targets run (`fuzz/`, `cargo xtask fuzz`): each takes any bytes, and panics if something is wrong. The same
//! runs as a test on the corpora and on what seeds make of them, without instrumentation.

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
