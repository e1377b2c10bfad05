//! A second look at tests that failed beside others, each alone on the machine.
//!
//! A test that then passes has met a machine that was busy, or another test: a mistake of the product or of the test in
//! either case, which is named at the end of the run and does not hold up a change that has nothing to do with it.
//! Many failures, or one that repeats itself, fail the run.

use anyhow::Result;

use crate::{
    build::{Artifacts, TestBinary},
    stage::Stages,
    suite::{Failed, Run, What},
};

/// More failures than this are no accident.
const MOST: usize = 5;

/// Runs each test that failed once more, if they are few.
pub(super) fn look(artifacts: &Artifacts, run: &Run, stages: &mut Stages) -> Result<()> {
    let again = worth_a_look(&stages.failures(), &artifacts.tests);
    for (failed, binary, name) in again {
        let alone = run.exactly([name]);
        let mut passed = false;
        stages.tests(&format!("alone: {failed}"), || {
            let mut tally = alone.binary(&binary)?;
            passed = tally.passed == 1 && tally.failed.is_empty();
            // It is counted already, either way.
            (tally.passed, tally.failed) = (0, Vec::new());
            Ok(tally)
        })?;
        if passed {
            stages.call_unsteady(failed);
        }
    }
    Ok(())
}

/// The tests among `failures` with the binaries that hold them; none if there are too many, or more than tests failed.
fn worth_a_look(failures: &[Failed], binaries: &[TestBinary]) -> Vec<(Failed, TestBinary, String)> {
    let found: Vec<_> = failures
        .iter()
        .filter_map(|failed| match &failed.what {
            What::Test(name) => {
                let binary = binaries.iter().find(|binary| binary.label() == failed.suite)?;
                Some((failed.clone(), binary.clone(), name.clone()))
            }
            What::Suite(_) => None,
        })
        .collect();
    if found.len() == failures.len() && found.len() <= MOST {
        found
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::TestKind;

    fn failed(what: What) -> Failed {
        Failed {
            suite: "package/target".to_owned(),
            what,
        }
    }

    #[test]
    fn few_tests_that_failed_are_worth_a_second_look_and_nothing_else_is() {
        let binaries = [TestBinary {
            package: "package".to_owned(),
            kind: TestKind::Integration,
            target: "target".to_owned(),
            folder: ".".into(),
            executable: "/bin/false".into(),
        }];
        let test = failed(What::Test("a".to_owned()));
        let looks = |failures: &[Failed]| worth_a_look(failures, &binaries).len();
        assert_eq!(looks(&vec![test.clone(); MOST]), MOST);
        assert_eq!(looks(&vec![test.clone(); MOST + 1]), 0);
        assert_eq!(looks(&[test, failed(What::Suite("killed".to_owned()))]), 0);
    }
}
