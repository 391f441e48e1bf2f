//! Descriptor-fetch registers, targets 4 (H2C), 5 (C2H) and 6 (common); PG195 "SGDMA Registers".

/// RW: address of the first descriptor, low half.
pub const DESCRIPTOR_LO: u32 = 0x80;
/// RW: high half of [`DESCRIPTOR_LO`].
pub const DESCRIPTOR_HI: u32 = 0x84;
/// RW: 5:0 number of descriptors adjacent after the first.
pub const DESCRIPTOR_ADJACENT: u32 = 0x88;
/// A write adds credits (9:0), a read returns the remaining credits. Credits count only in credit mode.
pub const CREDITS: u32 = 0x8c;
/// The maximum number of outstanding credits. The effect of more is undefined.
pub const MAX_CREDITS: u32 = 1023;

/// Target 6, RW: channels whose descriptor fetch is halted; see [`super::common_bit`].
pub const FETCH_HALT: u32 = 0x10;
/// Sets bits of [`FETCH_HALT`].
pub const FETCH_HALT_W1S: u32 = 0x14;
/// Clears bits of [`FETCH_HALT`].
pub const FETCH_HALT_W1C: u32 = 0x18;
/// Target 6, RW: channels in credit mode.
pub const CREDIT_ENABLE: u32 = 0x20;
/// Sets bits of [`CREDIT_ENABLE`].
pub const CREDIT_ENABLE_W1S: u32 = 0x24;
/// Clears bits of [`CREDIT_ENABLE`].
pub const CREDIT_ENABLE_W1C: u32 = 0x28;
