//! Named mistakes: a suite that stays green while one is made tests nothing.
//!
//! | name | mistake |
//! |---|---|
//! | `drop-token` | launches carry no client token |
//! | `skip-intent` | launches are not recorded before they are made |
//! | `trust-empty-list` | an instance that a listing does not show counts as gone |
//! | `thaw-parameters` | a repeated launch is made from the current spec, not from the frozen parameters |
//! | `trust-request` | a termination that was accepted counts as a termination that happened |
//! | `promote-empty` | whatever server stands in the primary's place leads |
//! | `open-early` | writes are opened before replicas acknowledge |

/// Whether the named mistake is to be made. Always false in what ships.
pub(crate) fn active(name: &str) -> bool {
    cfg!(any(test, feature = "sabotage")) && std::env::var("TESTKIT_SABOTAGE").is_ok_and(|on| on == name)
}
