//! What only a real kernel can show: these run in a virtual machine, with the card bound to `vfio-pci`. The files are
//! named by what has to be there; `xtask/src/vm/plan.rs` says which machine runs which.

mod card;
mod death;
mod iommu;
mod nodes;
#[path = "../driver/process.rs"]
mod process;
mod raw;
mod removal;
mod returning;
mod stranger;
#[expect(dead_code, reason = "shared with the driver's tests, which use all of it")]
#[path = "../driver/support.rs"]
mod support;
mod unprivileged;
mod without_iommu;
