//! Lives that go another way: what the first operator has left, backups that fail, volumes that are kept or lost.

use anyhow::{Result, bail, ensure};
use kube::api::{DeleteParams, Preconditions};
use mysql_api::MySQL;
use serde_json::{Value, json};

use super::world::{NAME, World};
use crate::{
    adoption::left,
    bed::{Bed, says},
    loads::answers,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Story {
    /// Created, written to, backed up, deleted, created again, deleted again.
    Whole,
    /// Left by the first operator, whose server answers; written to, deleted.
    Adopted,
    /// Its last backup fails until that is repaired.
    Blocked,
    /// Its last backup fails, and that is accepted.
    GivenUp,
    /// Its data volume is kept, and gone on with.
    Retained,
    /// Its data volume is lost, and comes back from a backup.
    Lost,
}

impl Story {
    pub(crate) const fn chapters(self) -> u8 {
        match self {
            Self::Whole => 5,
            Self::Adopted | Self::GivenUp => 2,
            Self::Blocked | Self::Retained => 3,
            Self::Lost => 4,
        }
    }

    fn spec(self) -> Value {
        match self {
            Self::GivenUp => json!({"backup": {"onDelete": "BestEffort"}}),
            Self::Retained => json!({"deletionPolicy": "Retain"}),
            _ => json!({}),
        }
    }
}

/// What is there before the operator is.
pub(crate) async fn prepare(story: Story, bed: &Bed) {
    if story != Story::GivenUp {
        bed.kubelet.disks.be_strict();
    }
    match story {
        Story::Adopted => {
            left(bed, NAME).await;
            answers(bed, NAME).await;
        }
        Story::Blocked | Story::GivenUp => {
            let words = json!({"reason": "AccessDenied", "error": "the server refuses the password"});
            bed.kubelet.break_("backup", 64, words);
        }
        _ => {}
    }
}

/// One chapter; each can be begun again after a crash in its middle.
pub(crate) async fn tell(world: &World, story: Story, chapter: u8) -> Result<()> {
    let gone = |object: Option<&MySQL>| object.is_none();
    match (story, chapter) {
        (_, 0) => {
            world.begin(&story.spec()).await?;
            world.write("row").await
        }
        (Story::Adopted | Story::GivenUp | Story::Retained, 1) => {
            world.delete().await?;
            world.until("it is gone", gone).await
        }
        (Story::Blocked, 1) => {
            world.delete().await?;
            let blocked = |object: Option<&MySQL>| {
                gone(object) || says(object, "DeletionBlocked", "True", "FinalBackupFailed")
            };
            world.until("it is blocked", blocked).await?;
            world.kubelet.repair("backup");
            Ok(())
        }
        (Story::Blocked, 2) => world.until("it is gone", gone).await,
        (Story::Retained, 2) => {
            let rows = world.begin(&story.spec()).await?;
            ensure!(rows == ["row"], "{rows:?}");
            Ok(())
        }
        (Story::Lost, 1) => world.back_up().await,
        (Story::Lost, 2) => lose(world).await,
        (Story::Lost, 3) => {
            // A Job that was made once more has found the data there.
            let back = |object: Option<&MySQL>| {
                let filled = ["Restored", "DataKept"]
                    .iter()
                    .any(|reason| says(object, "RestoreDone", "True", reason));
                filled && says(object, "Ready", "True", "Serving")
            };
            world.until("it is back", back).await
        }
        _ => bail!("{story:?} has no chapter {chapter}"),
    }
}

/// Deletes the claim of the data volume, once, and waits for another.
async fn lose(world: &World) -> Result<()> {
    let lost = if let Some(lost) = world.lost.get() {
        lost.clone()
    } else {
        let found = world.claim("m-pvc").await?;
        world.lost.get_or_init(|| found).clone()
    };
    let this = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(lost.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match world.claims().delete("m-pvc", &this).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        other => drop(other?),
    }
    loop {
        let found = world.claims().get_opt("m-pvc").await?;
        if found.is_some_and(|claim| claim.metadata.uid.as_ref() != Some(&lost)) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
}

/// What must hold afterwards.
pub(crate) async fn check(world: &World, story: Story) -> Result<()> {
    let disks = &world.kubelet.disks;
    let newest = disks.newest(&world.claim("backup-m-pvc").await?);
    let kept = world.claims().get_opt("m-pvc").await?;
    let kept = kept.filter(|claim| claim.metadata.deletion_timestamp.is_none());
    let rows = match &kept {
        Some(claim) => disks.rows(claim.metadata.uid.as_deref().unwrap_or_default()),
        None => None,
    };
    let row = Some(vec!["row".to_owned()]);
    let (backup, data, fillings): (&[&str], _, _) = match story {
        Story::Adopted => (&["old row", "row"], None, 0),
        Story::GivenUp => (&[], None, 1),
        Story::Blocked => (&["row"], None, 1),
        Story::Retained => (&["row"], row, 1),
        Story::Lost => (&["row"], row, 2),
        Story::Whole => bail!("the whole story is checked elsewhere"),
    };
    ensure!(newest == backup, "{story:?}: the newest backup has {newest:?}");
    ensure!(rows == data, "{story:?}: the volume has {rows:?}");
    let runs = disks.runs("restore");
    ensure!(runs == fillings, "{story:?}: {runs} Pods filled folders");
    Ok(())
}
