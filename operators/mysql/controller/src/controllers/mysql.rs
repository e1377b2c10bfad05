//! `MySQL`: from a spec to a server with its data, and back to a backup.
//!
//! # Expected flow
//! 1. The spec is validated; what is wrong with it is a condition.
//! 2. Volumes, Secrets, options and Service are made.
//! 3. The restore Job fills the data folder: from the newest backup of this name, else empty. That it did is written
//!    onto the claim of the data volume. Where volumes are folders of a node, they are tied to the one that its Pod was given.
//! 4. The server is started, and backups are taken as they are asked for.
//! 5. A deletion takes the final backup, removes the data volume, and then lets everything go but the backups.
//!
//! # Guarantees
//! Those of [`crate::database`], whatever request fails, gets lost or is the last one of this process: each step is
//! recognised in what the API server holds, and repeated or gone on from there.
//!
//! # Caveats
//! Claims, Secrets and options are not watched (that would take a right to see everybody's): what is done to them is
//! noticed within five minutes.

mod backups;
mod blocked;
mod cleanup;
mod error;
mod filling;
mod former;
mod going;
mod hand;
mod leaving;
mod life;
mod nodes;
mod secrets;
mod standstill;
mod story;
mod version;
mod volumes;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Service};
use kube::ResourceExt as _;
use mysql_api::{
    MySQL,
    database::{FINALIZER, FORMER_FINALIZER, Reason},
};
use reconcile::{Controller, Gate, Pass, Progress, Reconciler, finalizer};

pub use self::error::DatabaseError;
use self::hand::{Hand, Stop};
use crate::database::{
    desired::{Desired, Owner, SpecError},
    report::{self, Facts, Said},
};

/// When something is looked at again that sends no event.
const IDLE: Duration = Duration::from_mins(5);
/// When something is looked at again that is about to change.
const SOON: Duration = Duration::from_secs(2);

/// Reconciles `MySQL`s. Keeps nothing in memory: everything stands in the API server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Databases;

/// The controllers of this kind, with what they watch; at most `concurrency` objects are worked on at a time.
pub fn controllers(concurrency: usize) -> (Controller<Databases>, Controller<FormerDatabases>) {
    let databases = Controller::new(Databases)
        .owns::<Deployment>()
        .owns::<Job>()
        .owns::<Service>()
        .concurrency(concurrency);
    (databases, Controller::new(FormerDatabases).concurrency(1))
}

fn desired(object: &MySQL) -> Result<Desired, SpecError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let uid = object.uid().unwrap_or_default();
    let owner = Owner {
        namespace: &namespace,
        name: &name,
        uid: &uid,
    };
    Desired::resolve(owner, &object.spec)
}

impl Reconciler for Databases {
    type Kind = MySQL;
    type Error = DatabaseError;
    const NAME: &'static str = "mysql";
    const FINALIZER: Option<&'static str> = Some(FINALIZER);

    /// A pause holds everything but a deletion.
    fn gate(&self, object: &MySQL) -> Gate {
        if object.spec.paused && object.metadata.deletion_timestamp.is_none() {
            Gate::Paused
        } else {
            Gate::Manage
        }
    }

    async fn apply(&self, object: Arc<MySQL>, pass: &Pass<MySQL>) -> Result<Progress, DatabaseError> {
        let mut desired = match desired(&object) {
            Ok(desired) => desired,
            Err(error) => {
                let mut facts = Facts::default();
                let hand = Hand::new(pass);
                if let Some(outcome) = life::keep(&hand, &object, &error, &mut facts).await {
                    return finish(pass, outcome, facts).await;
                }
                let status = report::prevented(&object, error.reason, &error.message, pass.clock().now());
                story::tell(pass, &status).await?;
                return Ok(Progress::Settled);
            }
        };
        let mut facts = Facts::default();
        let hand = Hand::new(pass);
        let outcome = life::settle(&hand, &mut desired, &mut facts).await;
        finish(pass, outcome, facts).await
    }

    async fn cleanup(&self, object: Arc<MySQL>, pass: &Pass<MySQL>) -> Result<Progress, DatabaseError> {
        let mut facts = Facts::default();
        let outcome = cleanup::run(&Hand::new(pass), &object, &mut facts).await;
        let outcome = blocked::told(outcome, &mut facts);
        if matches!(outcome, Ok(Progress::Settled)) {
            // It is gone in a moment; nobody would read a status.
            return Ok(Progress::Settled);
        }
        finish(pass, outcome, facts).await
    }

    async fn paused(&self, object: Arc<MySQL>, pass: &Pass<MySQL>) -> Result<Progress, DatabaseError> {
        let status = report::paused(&object, pass.clock().now());
        story::tell(pass, &status).await?;
        Ok(Progress::Settled)
    }
}

/// Lets those `MySQL`s go that the kind's first operator has marked and this one never has: they were deleted before it
/// first looked, when its own mark cannot be made any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct FormerDatabases;

impl Reconciler for FormerDatabases {
    type Kind = MySQL;
    type Error = DatabaseError;
    const NAME: &'static str = "mysql-former";
    const FINALIZER: Option<&'static str> = Some(FORMER_FINALIZER);

    fn gate(&self, _: &MySQL) -> Gate {
        Gate::Ignore
    }

    async fn apply(&self, _: Arc<MySQL>, _: &Pass<MySQL>) -> Result<Progress, DatabaseError> {
        Ok(Progress::Settled)
    }

    async fn cleanup(&self, object: Arc<MySQL>, pass: &Pass<MySQL>) -> Result<Progress, DatabaseError> {
        if finalizer::has(object.as_ref(), FINALIZER) {
            // The other reconciler takes both off.
            return Ok(Progress::waiting(IDLE));
        }
        Databases.cleanup(object, pass).await
    }
}

/// Reports the facts, and says when to look again.
async fn finish(
    pass: &Pass<MySQL>,
    outcome: Result<Progress, Stop>,
    mut facts: Facts,
) -> Result<Progress, DatabaseError> {
    let result = match outcome {
        Ok(progress) => Ok(progress),
        Err(Stop::Held { said, after }) => {
            facts.summary = Some(said);
            Ok(Progress::waiting(after))
        }
        Err(Stop::Failed(error)) => {
            if matches!(error, DatabaseError::Lease(_)) {
                return Err(error);
            }
            if error.is_conflict_of_names() {
                facts.summary = Some(Said::no(Reason::NameConflict, error.to_string()));
            } else if error.is_refusal() {
                let said = Said::no(Reason::RequestRefused, error.words());
                facts.summary.get_or_insert(said);
            }
            Err(error)
        }
    };
    let status = report::status(&pass.current(), &facts, pass.clock().now());
    let told = story::tell(pass, &status).await;
    let progress = result?;
    told?;
    Ok(progress)
}
