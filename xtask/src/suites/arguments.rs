//! Wild numbers for the public functions, in a release build.

use super::Suite;

pub const SUITE: Suite = Suite {
    name: "arguments",
    about: "wild numbers for every public function, in a release build with overflow checks",
    needs: &["cc"],
    wants: &[],
    // The suite `tests` runs them in a debug build. There the compiler checks overflows; here it optimises as it does for users, and
    // what wraps is still seen. Dependencies are those of the suite `examples`.
    run: |run| {
        run.cargo_test(
            "--release --config profile.release.package.xdma.overflow-checks=true --test arguments",
        )
    },
};
