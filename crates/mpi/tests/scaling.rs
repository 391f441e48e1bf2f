//! `docs/scaling.md` contains the tables of the example `scaling`.

#[path = "../examples/scaling/model.rs"]
mod model;

use model::{Inputs, tables};

#[test]
fn the_document_contains_the_tables_of_the_model() {
    let document = include_str!("../../../docs/scaling.md");
    let tables = tables(&Inputs::default());
    let lines = || tables.lines().filter(|line| line.len() > 1);
    assert!(lines().count() > 20);
    for line in lines() {
        assert!(
            document.contains(line),
            "docs/scaling.md lacks this line of `cargo run -p xdma-mpi --example scaling`:\n{line}"
        );
    }
}
