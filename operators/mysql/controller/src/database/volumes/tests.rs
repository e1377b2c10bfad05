use mysql_api::MySQLSpec;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::database::desired::Owner;

fn desired(namespace: &str, uid: &str) -> Desired {
    let spec: MySQLSpec =
        serde_json::from_value(json!({"image": "mysql:8.4", "database": "d", "storage_size": "2Gi"}))
            .unwrap();
    let owner = Owner {
        namespace,
        name: "m",
        uid,
    };
    Desired::resolve(owner, &spec).unwrap()
}

fn class(name: &str, default: bool) -> StorageClass {
    serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": {IS_DEFAULT: default.to_string()}}, "provisioner": "p",
    }))
    .unwrap()
}

#[test]
fn a_volume_comes_from_the_class_that_is_named_else_the_default_else_a_node() {
    let classes = [class("slow", false), class("fast", true)];
    assert_eq!(
        placement(Some("slow"), &classes),
        Ok(Placement::Class(Some("slow".into())))
    );
    assert_eq!(placement(None, &classes), Ok(Placement::Class(None)));
    assert_eq!(placement(None, &[]), Ok(Placement::Node));
    let unknown = placement(Some("gone"), &classes).unwrap_err();
    assert_eq!(unknown.reason, Reason::StorageClassUnknown);
    assert!(unknown.message.contains("slow, fast"), "{unknown}");
    // A class that is named is never replaced by a folder of a node.
    assert!(placement(Some("gone"), &[]).is_err());
    let no_default = placement(None, &classes[..1]).unwrap_err();
    assert_eq!(no_default.reason, Reason::NoDefaultStorageClass);
}

#[test]
fn nobody_decides_over_data_but_the_operator_and_over_backups_nobody() {
    for role in [Role::Data, Role::Backups] {
        let claim = claim(role, &desired("ns", "u"), &Placement::Class(None));
        assert!(claim.metadata.owner_references.is_none());
        assert_eq!(
            claim.spec.unwrap().storage_class_name,
            None,
            "the cluster's default"
        );
    }
    assert_eq!(desired("ns", "u").backups.size, "1Gi");
}

#[test]
fn two_objects_of_one_name_never_share_a_folder_of_a_node() {
    let (one, other) = (desired("a", "u1"), desired("b", "u2"));
    let mut paths = std::collections::BTreeSet::new();
    for desired in [&one, &other] {
        for role in [Role::Data, Role::Backups] {
            let volume = fixed(role, desired, None);
            let claim = claim(role, desired, &Placement::Node);
            assert_eq!(fixed_of(&claim), volume.metadata.name.as_ref());
            let spec = volume.spec.unwrap();
            assert_eq!(claim.spec.as_ref().unwrap().volume_name, volume.metadata.name);
            let bound = spec.claim_ref.unwrap();
            assert_eq!(
                (bound.namespace, bound.name),
                (claim.metadata.namespace, claim.metadata.name)
            );
            assert_eq!(spec.persistent_volume_reclaim_policy.as_deref(), Some("Retain"));
            assert!(paths.insert(spec.host_path.unwrap().path));
        }
    }
}

fn claimed(metadata: &Value) -> PersistentVolumeClaim {
    let mut metadata = metadata.clone();
    metadata["name"] = json!("x");
    serde_json::from_value(json!({ "metadata": metadata })).unwrap()
}

fn made_for(uid: &str) -> Value {
    json!({"labels": desired("n", "u").names.labels(), "annotations": {MADE_FOR: uid}})
}

fn going(mut metadata: Value) -> Value {
    metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    metadata
}

fn owned_by(api: &str, kind: &str, uid: &str) -> Value {
    let owner = json!({"apiVersion": api, "kind": kind, "name": "m", "uid": uid, "controller": true});
    json!({"ownerReferences": [owner], "labels": desired("n", "u").names.labels()})
}

#[rstest]
#[case::ours(made_for("u"), Standing::Ours, Standing::Ours)]
#[case::ours_and_going(going(made_for("u")), Standing::Ours, Standing::Ours)]
#[case::left_for_us(made_for("older"), Standing::Inherited, Standing::Inherited)]
#[case::going(going(made_for("older")), Standing::Leaving, Standing::Leaving)]
#[case::of_another_name(json!({"labels": Names::new("other").unwrap().labels()}), Standing::Foreign, Standing::Foreign)]
#[case::bare(json!({}), Standing::Foreign, Standing::Inherited)]
#[case::managed_by_others(json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}), Standing::Foreign, Standing::Foreign)]
#[case::originals(
    owned_by("otus.homework/v1", "MySQL", "u"),
    Standing::Inherited,
    Standing::Inherited
)]
#[case::predecessors(
    owned_by("otus.homework/v1", "MySQL", "older"),
    Standing::Leaving,
    Standing::Leaving
)]
#[case::of_a_set(owned_by("apps/v1", "StatefulSet", "s"), Standing::Foreign, Standing::Foreign)]
fn a_claim_is_taken_only_if_it_is_provably_ours(
    #[case] metadata: Value,
    #[case] data: Standing,
    #[case] backups: Standing,
) {
    let names = Names::new("m").unwrap();
    let claim = claimed(&metadata);
    assert_eq!(standing(&claim, Role::Data, &names, "u"), data);
    assert_eq!(standing(&claim, Role::Backups, &names, "u"), backups);
}

#[rstest]
#[case::ours(made_for("u"), true)]
#[case::ours_and_going(going(made_for("u")), true)]
#[case::originals(owned_by("otus.homework/v1", "MySQL", "u"), true)]
#[case::left_for_us_and_not_taken(made_for("older"), false)]
#[case::of_the_next_of_our_name(made_for("younger"), false)]
#[case::predecessors(owned_by("otus.homework/v1", "MySQL", "older"), false)]
#[case::bare(json!({}), false)]
fn a_deletion_takes_along_only_what_its_own_object_had(#[case] metadata: Value, #[case] goes: bool) {
    let names = Names::new("m").unwrap();
    assert_eq!(goes_with(&claimed(&metadata), &names, "u"), goes);
}

#[rstest]
#[case(Content::Awaited)]
#[case(Content::Empty)]
#[case(Content::Restored("b1".into()))]
#[case(Content::Kept)]
#[case(Content::Unseen)]
fn what_a_volume_holds_stands_on_its_claim(#[case] content: Content) {
    let claim = claimed(&json!({"annotations": {DATA: content.annotation()}}));
    assert_eq!(Content::of(&claim), content);
}

#[test]
fn that_data_began_with_nothing_is_known_also_of_a_volume_that_another_object_inherits() {
    let claim = |annotations| claimed(&json!({"uid": "c", "annotations": annotations}));
    let inherited = claim(json!({DATA: "kept", BEGAN_EMPTY: "true"}));
    let patch = inheritance(
        &inherited,
        Role::Data,
        &Names::new("m").unwrap(),
        "u",
        Some("shop"),
    );
    assert!(
        patch["metadata"]["annotations"].get(BEGAN_EMPTY).is_none(),
        "it stays"
    );
    let lineage = Lineage::of(&inherited);
    assert_eq!((lineage.claim.as_str(), lineage.is_fresh), ("c", true));
    assert!(Lineage::of(&claim(json!({DATA: "empty"}))).is_fresh);
    assert!(!Lineage::of(&claim(json!({DATA: "restored:b1"}))).is_fresh);
}

#[rstest]
#[case::the_first_operators(json!({}), "unseen")]
#[case::not_looked_at_yet(json!({"annotations": {DATA: "unseen"}}), "unseen")]
#[case::of_a_server(json!({"annotations": {DATA: "empty"}}), "kept")]
#[case::of_no_server_yet(json!({"annotations": {DATA: "awaited"}}), "awaited")]
#[case::marked(json!({"labels": desired("n", "u").names.labels()}), "kept")]
fn who_inherits_a_volume_keeps_what_is_on_it(#[case] metadata: Value, #[case] data: &str) {
    let names = Names::new("m").unwrap();
    let patch = inheritance(&claimed(&metadata), Role::Data, &names, "u", Some("shop"));
    let annotations = &patch["metadata"]["annotations"];
    assert_eq!(annotations[MADE_FOR], "u");
    assert_eq!(annotations[DATA], data);
    assert_eq!(
        patch["metadata"]["ownerReferences"],
        json!([]),
        "no garbage collector decides over it"
    );
}

#[rstest]
#[case(json!({}), true)]
#[case(json!({"annotations": {"volume.kubernetes.io/storage-provisioner": "p"}}), false)]
#[case(json!({"labels": {"app.kubernetes.io/managed-by": "mysql-operator", "otus.homework/mysql": "m"}}), false)]
fn a_volume_of_the_first_operators_may_be_roots_unless_it_was_provisioned(
    #[case] metadata: Value,
    #[case] roots: bool,
) {
    let names = Names::new("m").unwrap();
    let mut claim = claimed(&metadata);
    let patch = inheritance(&claim, Role::Backups, &names, "u", Some("shop"));
    let annotations = patch["metadata"]["annotations"].clone();
    claim
        .annotations_mut()
        .extend(serde_json::from_value::<BTreeMap<_, _>>(annotations).unwrap());
    assert_eq!(is_roots(&claim), roots);
}

#[test]
fn a_claim_without_a_word_holds_data() {
    assert_eq!(Content::of(&claimed(&json!({}))), Content::Kept);
    let strange = claimed(&json!({"annotations": {DATA: "whatever"}}));
    assert_eq!(Content::of(&strange), Content::Kept);
}

#[rstest]
#[case("1Gi", Resize::Grow)]
#[case("2Gi", Resize::None)]
#[case("2048Mi", Resize::None)]
#[case("3Gi", Resize::Refused)]
fn volumes_grow_and_never_shrink(#[case] asked: &str, #[case] step: Resize) {
    let mut claim = claimed(&json!({}));
    claim.spec = serde_json::from_value(
        json!({"resources": {"requests": {"storage": asked}}, "storageClassName": "slow"}),
    )
    .unwrap();
    let mut wanted = desired("ns", "u").data;
    assert_eq!(resize(&claim, &wanted), step);
    assert_eq!(other_class(&claim, &wanted), None);
    wanted.class = Some("fast".into());
    assert_eq!(other_class(&claim, &wanted), Some("slow"));
}
