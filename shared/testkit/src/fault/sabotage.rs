//! Named mistakes: a suite that stays green while one is made tests nothing.
//!
//! # The mechanism
//! A product crate that has sabotages has a cargo feature `sabotage`, off by default, and one function:
//!
//! ```
//! /// Whether the named mistake is to be made. Always false in what ships.
//! pub(crate) fn active(name: &str) -> bool {
//!     cfg!(any(test, feature = "sabotage")) && std::env::var("TESTKIT_SABOTAGE").is_ok_and(|on| on == name)
//! }
//! # assert!(!active("drop-unprocessed"));
//! ```
//!
//! At the one place that keeps a promise, the product asks it: `if sabotage::active("drop-unprocessed") { … }`.
//! Without the feature the condition is the constant `false` and the branch is compiled away. A test run sets the
//! variable for the whole process (`TESTKIT_SABOTAGE=drop-unprocessed`), runs the suite, and expects it to fail;
//! [`is`] and [`current`] tell a suite which mistake is being made, for its summary.

use std::sync::LazyLock;

/// The variable that names the mistake.
pub const VARIABLE: &str = "TESTKIT_SABOTAGE";

static CURRENT: LazyLock<Option<String>> =
    LazyLock::new(|| std::env::var(VARIABLE).ok().filter(|name| !name.is_empty()));

/// The mistake that this process makes, if any. The environment is read once.
pub fn current() -> Option<&'static str> {
    CURRENT.as_deref()
}

/// Whether this process makes the named mistake.
pub fn is(name: &str) -> bool {
    current() == Some(name)
}
