//! Runs tests on the cards that the shipped card files describe.

use xdma_card_file::{Bar, CardFile, Core};

/// The environment variable that names a description: all tests that do not name a board then run on this one.
const LIKE_VARIABLE: &str = "XDMA_LIKE";

/// Returns `card` with the function, BARs and data path of the description that [`LIKE_VARIABLE`] names, if it is set. Tests choose
/// channels and switches.
pub fn like(card: CardFile) -> CardFile {
    let Ok(name) = std::env::var(LIKE_VARIABLE) else { return card };
    let mut like = CardFile::shipped(&name).expect("XDMA_LIKE is a shipped card");
    if like.user_bar().is_none() && like.bars.iter().all(|bar| bar.user_offset.is_none()) {
        // Many tests need registers of the user logic. The BAR is too small to be taken for the core's.
        like.bars.push(Bar { index: 2, size: 16 << 10, ..CardFile::alveo().bars[0] });
    }
    let CardFile { mut function, bars, core, .. } = like;
    function.reset = card.function.reset;
    let core = Core { data_width: core.data_width, ..card.core };
    CardFile { name, function, bars, core, ..card }
}
