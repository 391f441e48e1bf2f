//! Virtual machines that run the driver under a real Linux kernel, with the emulated card as a PCI function.

pub mod boot;
pub mod outcomes;
pub mod plan;
pub mod rig;
