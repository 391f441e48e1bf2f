//! Tests that need a real kernel. They run in a virtual machine, with the card bound to `vfio-pci`. `xtask/src/vm/machines.toml`
//! defines which machine runs which module.

mod c_programs;
mod card;
mod death;

mod device_files;
mod iommu;
mod nodes;
mod programs;
mod prover;
mod python;
mod remapping_bus;
mod removal;
mod returning;
mod stranger;
mod unprivileged;
mod without_iommu;
