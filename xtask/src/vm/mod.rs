//! The driver under a real Linux in a virtual machine, with the emulated card as its PCI function.

pub mod boot;
pub mod judge;
pub mod plan;
pub mod rig;
