//! The MSM design inside the simulated image for AWS F2.

use super::{AxiResponse, Burst, Logic, Shell};
use std::sync::Arc;
use vm_memory::VolatileSlice;

/// The MSM design as part of the simulated image for AWS F2 (`cl_f2`), in place of logic behind the image. Other cards have nothing
/// behind their AXI port with it.
#[derive(Debug, Default)]
pub struct InImage;

impl Logic for InImage {
    fn attach(&self, _: Arc<dyn Shell>) {}

    fn write(&self, _: usize, _: u64, _: Burst, _: &VolatileSlice) -> AxiResponse {
        AxiResponse::DecodeError
    }

    fn read(&self, _: usize, _: u64, _: Burst, _: &VolatileSlice) -> AxiResponse {
        AxiResponse::DecodeError
    }

    fn user_read(&self, _: usize, _: u64) -> u32 {
        0
    }

    fn user_write(&self, _: usize, _: u64, _: u32) {}

    fn reset(&self) {}

    fn is_in_image(&self) -> bool {
        true
    }
}
