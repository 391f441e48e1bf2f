//! The documentation builds, and no link in it is broken.

use super::Suite;

pub const SUITE: Suite = Suite {
    name: "docs",
    about: "the documentation has no broken link and no gap",
    needs: &["cc"],
    wants: &[],
    run: |run| {
        run.check("cargo doc", |run| {
            let mut doc = run.cargo("doc --no-deps --features arkworks,cli,halo2curves,tokio");
            doc.env("RUSTDOCFLAGS", "-D warnings");
            run.succeed(doc)
        });
        Ok(())
    },
};
