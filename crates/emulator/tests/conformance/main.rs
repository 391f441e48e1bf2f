//! Conformance tests of the emulated card.
//!
//! All tests use raw vfio-user accesses and literal numbers from PG195 (cited by section title), from the PCI specifications, and
//! from published drivers. They use no names from the driver or its register map, so a mistake there is not repeated here.
//!
//! Sources are abbreviated as follows:
//!
//! | abbreviation | source |
//! |---|---|
//! | XIL | the vendor driver, github.com/Xilinx/dma_ip_drivers, `XDMA/linux-kernel` |
//! | DID#n | issue or pull request n of Xilinx/dma_ip_drivers |
//! | AWSM | the F1 driver, github.com/aws/aws-fpga, branch `master` |
//! | LNX-X | upstream Linux, `drivers/dma/xilinx/xdma.c` |
//! | FSIO | github.com/Chester-Gillon/fpga_sio, `xilinx_dma_bridge_for_pcie` |
//! | PRA, PRA#n | the reworked driver, github.com/Prandr/dma_ip_drivers, and its issues |

mod beyond;
mod boards;
mod chains;
mod config_space;
mod credits;
mod edges;
// With `rtl-dma`, all cards have the engine alone, without F2's shell.
#[cfg(not(feature = "rtl-dma"))]
mod f2;
mod fabric;
mod faults;
mod host;
mod identity;
mod interrupts;
mod perf;
mod probe;
mod protocol;
mod raw;
mod registers;
mod reset;
mod rig;
mod sequences;
mod streams;
mod transfers;
mod write_back;
