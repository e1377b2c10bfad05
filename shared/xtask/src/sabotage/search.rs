//! The search for a test that notices one mistake.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    build::TestBinary,
    suite::{Failed, Run, What},
};

/// How often the rest of a binary's tests is tried when one has failed for another reason.
const ATTEMPTS: usize = 3;

/// How the tests are run with the mistake and without, and until when.
#[derive(Debug)]
pub(super) struct Search {
    /// With it, until the first failure.
    pub(super) with_it: Run,
    /// Without it.
    pub(super) without: Run,
    /// Nothing begins after this.
    pub(super) deadline: Instant,
}

/// What came of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This failed with the mistake and passes without.
    Noticed(Failed),
    /// Nothing did; so many tests passed, and these failed with and without it.
    Unnoticed(u64, Vec<Failed>),
    /// The time was over; so many tests had passed.
    OutOfTime(u64),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noticed(failed) => write!(f, "red: {failed}"),
            Self::Unnoticed(passed, unstable) => {
                write!(f, "GREEN: {passed} tests did not notice")?;
                let names: Vec<_> = unstable.iter().map(ToString::to_string).collect();
                if names.is_empty() {
                    Ok(())
                } else {
                    write!(f, "; failing without it too: {}", names.join(", "))
                }
            }
            Self::OutOfTime(passed) => write!(f, "GREEN: out of time, {passed} tests did not notice"),
        }
    }
}

impl Search {
    /// Goes through the binaries until a test notices.
    pub(super) fn among(&self, binaries: &[&TestBinary]) -> Result<Verdict> {
        let (mut passed, mut unstable) = (0, Vec::new());
        for binary in binaries {
            for _ in 0..ATTEMPTS {
                let Some(left) = self.left() else {
                    return Ok(Verdict::OutOfTime(passed));
                };
                let tally = self.with_it(&unstable, left).binary(binary)?;
                passed += tally.passed;
                let Some(failed) = tally.failed.into_iter().next() else {
                    break;
                };
                if self.passes_without(binary, &failed)? {
                    return Ok(Verdict::Noticed(failed));
                }
                let whole = matches!(failed.what, What::Suite(_));
                unstable.push(failed);
                if whole {
                    break;
                }
            }
        }
        Ok(Verdict::Unnoticed(passed, unstable))
    }

    /// How long may still be searched.
    fn left(&self) -> Option<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// The run with the mistake, without the tests that fail anyhow.
    fn with_it(&self, unstable: &[Failed], left: Duration) -> Run {
        let mut run = self.with_it.clone();
        run.limit = run.limit.min(left);
        for failed in unstable {
            if let What::Test(name) = &failed.what {
                run.arguments.extend(["--skip".to_owned(), name.clone()]);
            }
        }
        run
    }

    /// Whether what failed with the mistake passes without it, run by itself.
    fn passes_without(&self, binary: &TestBinary, failed: &Failed) -> Result<bool> {
        let mut run = self.without.clone();
        if let What::Test(name) = &failed.what {
            run.arguments = vec![name.clone(), "--exact".to_owned()];
        }
        let tally = run.binary(binary)?;
        Ok(tally.failed.is_empty() && tally.passed > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use super::*;
    use crate::build::TestKind;

    /// A folder that goes away with the value.
    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    /// A shell script in the place of a test binary: `tests` prints the lines of the tests.
    fn suite(name: &str, tests: &str) -> (Folder, TestBinary) {
        let folder = std::env::temp_dir().join(format!("xtask-search-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let executable = folder.join("suite");
        let script = format!("#!/bin/sh\necho 'running 1 test'\n{tests}\n");
        fs::write(&executable, script).unwrap();
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).unwrap();
        let binary = TestBinary {
            package: name.to_owned(),
            kind: TestKind::Unit,
            target: name.to_owned(),
            folder: folder.clone(),
            executable,
        };
        (Folder(folder), binary)
    }

    fn search(binary: &TestBinary) -> Verdict {
        let without = Run {
            quiet: true,
            limit: Duration::from_mins(1),
            ..Run::default()
        };
        let mut with_it = without.clone();
        with_it.stop_at_failure = true;
        with_it
            .environment
            .push(("XTASK_MISTAKE".to_owned(), "1".to_owned()));
        let deadline = Instant::now() + Duration::from_mins(1);
        let search = Search {
            with_it,
            without,
            deadline,
        };
        search.among(&[binary]).unwrap()
    }

    const PASSED: &str = "echo 'test result: ok. 1 passed; 0 failed'";
    const FAILED: &str = "echo 'test a ... FAILED'; echo 'test result: FAILED. 0 passed; 1 failed'; exit 101";

    #[test]
    fn a_test_that_fails_only_with_the_mistake_has_noticed_it() {
        let (_folder, binary) = suite(
            "noticed",
            &format!("[ -z \"$XTASK_MISTAKE\" ] || {{ {FAILED}; }}; {PASSED}"),
        );
        let verdict = search(&binary);
        assert!(
            matches!(&verdict, Verdict::Noticed(failed) if failed.to_string() == "noticed: a"),
            "{verdict}"
        );
    }

    #[test]
    fn a_test_that_fails_anyhow_has_noticed_nothing() {
        let unstable = format!("case \"$*\" in *--skip*) {PASSED}; exit;; esac; {FAILED}");
        let (_folder, binary) = suite("unstable", &unstable);
        let verdict = search(&binary);
        let Verdict::Unnoticed(1, unstable) = &verdict else {
            panic!("{verdict}")
        };
        assert_eq!(unstable[0].to_string(), "unstable: a");
    }

    #[test]
    fn a_suite_that_hangs_with_the_mistake_only_has_noticed_it() {
        let (_folder, binary) = suite(
            "hang",
            &format!("[ -z \"$XTASK_MISTAKE\" ] || exec sleep 600; {PASSED}"),
        );
        let search = Search {
            with_it: Run {
                quiet: true,
                limit: Duration::from_millis(50),
                environment: vec![("XTASK_MISTAKE".to_owned(), "1".to_owned())],
                ..Run::default()
            },
            without: Run {
                quiet: true,
                limit: Duration::from_mins(1),
                ..Run::default()
            },
            deadline: Instant::now() + Duration::from_mins(1),
        };
        let verdict = search.among(&[&binary]).unwrap();
        assert!(matches!(verdict, Verdict::Noticed(_)), "{verdict}");
    }

    #[test]
    fn a_mistake_that_nothing_notices_is_green() {
        let (_folder, binary) = suite("green", PASSED);
        assert_eq!(search(&binary), Verdict::Unnoticed(1, Vec::new()));
    }
}
