//! A server whose data go with its Pod: somebody has deleted the claim, and Kubernetes holds that for as long as a Pod has
//! it. Nothing is changed that would end the Pod.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::PersistentVolumeClaim};
use kube::ResourceExt as _;
use mysql_api::database::Reason;
use reconcile::apply::APPLIED;

use super::version;
use crate::database::{
    desired::Desired,
    names::{Owned, owned},
    report::{Facts, Said},
    server,
};

/// The server that has to stay as it is for its data.
pub(super) fn held<'a>(
    desired: &Desired,
    live: Option<&'a Deployment>,
    data: Option<&PersistentVolumeClaim>,
) -> Option<&'a Deployment> {
    data?.metadata.deletion_timestamp.as_ref()?;
    live.filter(|live| {
        owned(*live, &desired.names, &desired.uid) == Owned::Ours && live.annotations().contains_key(APPLIED)
    })
}

/// Leaves such a server what it runs with: its image, and the password that it lets root in with.
pub(super) fn hold(
    desired: &mut Desired,
    live: Option<&Deployment>,
    data: Option<&PersistentVolumeClaim>,
    facts: &mut Facts,
) {
    let Some(server) = held(desired, live, data) else {
        return;
    };
    if let Some(image) = server::image_of(server) {
        version::stay(desired, image);
    }
    desired.keep_password();
    facts.refused = Some(Said::no(
        Reason::LeftoversGoing,
        format!(
            "somebody has deleted {}, and it goes, with its data, when the server's Pod ends: nothing about the server is \
             changed until then; take a backup, then delete that Pod, and another volume is filled from the backup",
            desired.names.data_claim()
        ),
    ));
}
