//! CRDs: applied, and served.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};

use super::{ControlPlane, ControlPlaneError, error::requesting};

/// How long a CRD may take to be established and served.
const DEADLINE: Duration = Duration::from_secs(30);
/// The field manager of what the test bed itself applies.
const FIELD_MANAGER: &str = "testkit";

impl ControlPlane {
    /// Creates or updates `crds` and waits until each is served. One that this process has applied already, and that nobody
    /// has changed since, costs a look: to apply a definition again makes the API server compile all of its rules.
    pub async fn apply_crds(&self, crds: &[CustomResourceDefinition]) -> Result<(), ControlPlaneError> {
        let client = self.client();
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let mut news = Vec::new();
        for crd in crds {
            let (name, digest) = (crd.name_any(), digest(crd));
            let known = self.applied.lock().get(&name).copied();
            if let Some((_, generation)) = known.filter(|(before, _)| *before == digest) {
                let live = api.get_metadata_opt(&name).await;
                let live = live.map_err(requesting(format!("look at the CRD {name}")))?;
                if live.is_some_and(|live| live.metadata.generation == generation) {
                    continue;
                }
            }
            let applied = api.patch(&name, &params, &Patch::Apply(crd)).await;
            let applied = applied.map_err(requesting(format!("apply the CRD {name}")))?;
            news.push((crd, digest, applied.metadata.generation));
        }
        for (crd, digest, generation) in news {
            let name = crd.name_any();
            let what = format!("the CRD {name} is established and served");
            self.wait(DEADLINE, &what, async || is_served(&api, &client, crd).await)
                .await?;
            self.applied.lock().insert(name, (digest, generation));
        }
        Ok(())
    }
}

fn digest(crd: &CustomResourceDefinition) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(crd).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// Whether the API server has taken the CRD on and answers requests for each of its versions.
async fn is_served(
    api: &Api<CustomResourceDefinition>,
    client: &Client,
    crd: &CustomResourceDefinition,
) -> Result<bool, kube::Error> {
    let live = api.get(&crd.name_any()).await?;
    let conditions = live
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let holds = |kind: &str| {
        conditions
            .iter()
            .any(|condition| condition.type_ == kind && condition.status == "True")
    };
    if !holds("Established") || !holds("NamesAccepted") {
        return Ok(false);
    }
    for version in live.spec.versions.iter().filter(|version| version.served) {
        let kind = GroupVersionKind::gvk(&live.spec.group, &version.name, &live.spec.names.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &live.spec.names.plural);
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        match objects.list(&ListParams::default().limit(1)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
            answer => drop(answer?),
        }
    }
    Ok(true)
}
