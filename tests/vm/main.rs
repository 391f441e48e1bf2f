//! What only a real kernel can show: these run in a virtual machine, with the card bound to `vfio-pci`. The files are
//! named by what has to be there; `xtask/src/vm/plan.rs` says which machine runs which.

mod card;
mod death;
mod iommu;
mod nodes;
mod raw;
mod removal;
mod returning;
mod stranger;
mod unprivileged;
mod without_iommu;
