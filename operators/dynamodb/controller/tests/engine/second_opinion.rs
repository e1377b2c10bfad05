//! The same again on DynamoDB Local, but for what is measured in virtual time, on a server that a test simulates.

use std::process::Command;

use crate::bed::SECOND_OPINION;

#[test]
#[ignore = "takes minutes: cargo xtask test --full"]
fn all_of_this_holds_on_dynamodb_local_too() {
    let simulated = ["limits::", "reading::", "replaced::", "sharing::", "timing::"];
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.env(SECOND_OPINION, "1").arg("--test-threads=2");
    for module in simulated {
        again.args(["--skip", module]);
    }
    let status = again.status().unwrap();
    assert!(status.success(), "what failed stands above: {status}");
}
