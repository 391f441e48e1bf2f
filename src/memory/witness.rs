//! Who is told what becomes of the memory that a card may use.
//!
//! Memory in a pool stays mapped when it is released, so no bus and no IOMMU can tell that a card uses it afterwards. An emulated
//! card can: it is its own witness, and takes an access to released memory for a broken rule.

use super::space::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

/// Learns which device addresses a card may use.
pub trait Witness: Send + Sync {
    /// From now on these addresses belong to somebody.
    fn taken(&self, address: u64, len: u64);

    /// From now on they belong to nobody: the card must be done with them.
    fn released(&self, address: u64, len: u64);
}

static WITNESSES: Mutex<BTreeMap<String, Weak<dyn Witness>>> = Mutex::new(BTreeMap::new());

/// Lets `witness` learn of the memory of every card that this process opens at `location` from now on: a socket's path or a PCI
/// address, as [`Description::location`](crate::bus::Description::location) has it.
pub fn attend(location: &str, witness: &Arc<dyn Witness>) {
    let mut witnesses = lock(&WITNESSES);
    witnesses.retain(|_, witness| witness.strong_count() > 0);
    witnesses.insert(location.into(), Arc::downgrade(witness));
}

/// Who wants to know of the card at `location`.
pub(super) fn of(location: &str) -> Option<Arc<dyn Witness>> {
    lock(&WITNESSES).get(location)?.upgrade()
}
