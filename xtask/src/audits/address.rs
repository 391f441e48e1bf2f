//! AddressSanitizer: no access outside, after release, or to what was never there.

use super::TESTS;
use crate::run::host;
use crate::suites::Suite;

pub const SUITE: Suite = Suite {
    name: "address",
    about: "AddressSanitizer sees nothing wrong in the driver and the emulated card",
    needs: &["cc"],
    wants: &[],
    run: |run| {
        let target = host(run)?;
        run.environment.extend([
            // A stable compiler takes the flag of a nightly one with this.
            ("RUSTC_BOOTSTRAP", "1".into()),
            // Other builds neither wait for this one nor are thrown away by it.
            ("CARGO_TARGET_DIR", run.workspace.prefix().join("address")),
            ("RUSTFLAGS", "-Zsanitizer=address".into()),
            // Quarantined memory is leaked on purpose.
            ("ASAN_OPTIONS", "detect_leaks=0".into()),
        ]);
        run.cargo_test(&format!("--target {target} {TESTS}"))
    },
};
