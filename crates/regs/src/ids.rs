//! PCI identifiers of XDMA cards, as in the table of the vendor's kernel module (dma_ip_drivers, `xdma_mod.c`), and of AWS's cards.

use std::ops::RangeInclusive;

/// The model of a card, according to its PCI identifiers.
///
/// ```
/// use xdma_regs::ids::Model;
///
/// assert!(Model::of(0x10ee, 0x903f).is_card());
/// assert_eq!(Model::of(0x10ee, 0x0007), Model::Unknown);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// An XDMA card of this model.
    Card(&'static str),
    /// An AWS card without an image. Its IDs change when an image is loaded.
    NoImage,
    /// The management function of an AWS F2 card, which AWS's tools use. It is not a card.
    Management,
    /// Unknown IDs. AWS images can have any IDs.
    Unknown,
}

/// Amazon's PCI vendor ID.
pub const AMAZON: u16 = 0x1d0f;

/// Device IDs that AWS's tools accept for images with Amazon's vendor ID (aws-fpga, hdk/README.md).
const AWS: RangeInclusive<u16> = 0xf000..=0xf0ff;
/// Device ID of F2's management function.
const AWS_MANAGEMENT: u16 = 0x9248;
/// Device IDs of F1 and F2 cards without an image.
const AWS_NO_IMAGE: [u16; 2] = [0x1042, 0x9048];

const ULTRASCALE_PLUS: [u16; 17] = [
    0x903f, 0x9011, 0x9012, 0x9014, 0x9018, 0x9021, 0x9022, 0x9024, 0x9028, 0x9031, 0x9032, 0x9034, 0x9038,
    0x9041, 0x9042, 0x9044, 0x9048,
];
const ULTRASCALE: [u16; 12] =
    [0x8011, 0x8012, 0x8014, 0x8018, 0x8021, 0x8022, 0x8024, 0x8028, 0x8031, 0x8032, 0x8034, 0x8038];
const SERIES_7: [u16; 12] =
    [0x7011, 0x7012, 0x7014, 0x7018, 0x7021, 0x7022, 0x7024, 0x7028, 0x7031, 0x7032, 0x7034, 0x7038];
const OLDER: [u16; 13] =
    [0x6828, 0x6830, 0x6928, 0x6930, 0x6a28, 0x6a30, 0x6d30, 0x4808, 0x4828, 0x4908, 0x4a28, 0x4b28, 0x2808];

impl Model {
    /// Returns the model for a vendor and device ID.
    pub fn of(vendor: u16, device: u16) -> Self {
        match vendor {
            AMAZON if AWS.contains(&device) => Self::Card("AWS F1/F2"),
            AMAZON if AWS_NO_IMAGE.contains(&device) => Self::NoImage,
            AMAZON if device == AWS_MANAGEMENT => Self::Management,
            0x10ee if ULTRASCALE_PLUS.contains(&device) => Self::Card("UltraScale+"),
            0x10ee if ULTRASCALE.contains(&device) => Self::Card("UltraScale"),
            0x10ee if SERIES_7.contains(&device) => Self::Card("7 series"),
            0x10ee if OLDER.contains(&device) => Self::Card("Xilinx XDMA"),
            _ => Self::Unknown,
        }
    }

    /// Returns whether this is an XDMA card.
    pub fn is_card(self) -> bool {
        matches!(self, Self::Card(_))
    }

    /// Returns a short name for tables; empty if unknown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Card(name) => name,
            Self::NoImage => "AWS, no image",
            Self::Management => "AWS F2, management",
            Self::Unknown => "",
        }
    }
}
