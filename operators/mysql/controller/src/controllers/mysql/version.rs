//! Which version a server's data are of: that of the image that last answered from them, or that filled the folder.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::PersistentVolumeClaim};
use kube::ResourceExt as _;
use mysql_api::database::Reason;
use reconcile::apply::APPLIED;
use serde_json::json;

use super::hand::{Hand, Stop};
use crate::{
    database::{
        desired::Desired,
        plan,
        report::{Facts, Said},
        server,
        volumes::{SERVED, goes_with},
    },
    version::Version,
};

/// Keeps the image that is there, if data cannot be carried to the one that is asked for. An image that never answered
/// is no step: from a mistake in its name there is a way back.
pub(super) fn hold(
    desired: &mut Desired,
    live: Option<&Deployment>,
    data: Option<&PersistentVolumeClaim>,
    facts: &mut Facts,
) {
    let ours = live.filter(|live| live.annotations().contains_key(APPLIED));
    let there = ours.and_then(server::image_of);
    let claim = data.filter(|claim| goes_with(claim, &desired.names, &desired.uid));
    let noted = claim.and_then(|claim| claim.annotations().get(SERVED).cloned());
    // There is no note on a volume from before there were any.
    let answers = ours.filter(|live| server::is_serving(live)).and(there);
    let Some(served) = noted.as_deref().or(answers) else {
        return;
    };
    let Some(kept) = plan::kept_image(served, there, &desired.image) else {
        return;
    };
    facts.refused = Some(Said::no(
        Reason::VersionChangeRefused,
        format!(
            "data that {served} has served cannot be carried to {} in one step; {kept} goes on running: ask for the next \
             series first, or, to an older release, delete and create this MySQL, which goes by way of a backup",
            desired.image
        ),
    ));
    let kept = kept.to_owned();
    stay(desired, &kept);
}

/// Goes on with this image, whatever the spec says.
pub(super) fn stay(desired: &mut Desired, image: &str) {
    image.clone_into(&mut desired.image);
    desired.version = Version::of_image(image);
    desired.identity = desired.identity.with_image(image);
}

/// Writes down which image answers, on what it answers from.
pub(super) async fn record(hand: &Hand<'_>, data: &PersistentVolumeClaim, facts: &Facts) -> Result<(), Stop> {
    let Some(image) = &facts.image else { return Ok(()) };
    if data.annotations().get(SERVED) == Some(image) {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": data.metadata.uid, "annotations": {SERVED: image}}});
    hand.merge::<PersistentVolumeClaim>(&data.name_any(), &patch)
        .await?;
    Ok(())
}
