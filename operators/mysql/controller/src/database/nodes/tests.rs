use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn pod(node: Option<&str>, phase: &str, made: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "creationTimestamp": made},
        "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase},
    }))
    .unwrap()
}

const EARLY: &str = "2026-11-21T11:00:00Z";
const LATE: &str = "2026-11-21T12:00:00Z";

#[test]
fn work_is_where_it_was_done_else_where_it_goes_on_else_where_it_was_last_tried() {
    let failed = [pod(Some("a"), "Failed", EARLY), pod(Some("b"), "Failed", LATE)];
    assert_eq!(place(&failed), Some("b"));
    assert_eq!(done_on(&failed), None);
    let goes_on = [pod(Some("a"), "Running", EARLY), pod(Some("b"), "Failed", LATE)];
    assert_eq!(place(&goes_on), Some("a"));
    let done = [
        pod(Some("a"), "Succeeded", EARLY),
        pod(Some("b"), "Running", LATE),
    ];
    assert_eq!((place(&done), done_on(&done)), (Some("a"), Some("a")));
    assert_eq!(
        place(&[pod(None, "Pending", EARLY)]),
        None,
        "it is on no node yet"
    );
    assert_eq!(place(&[]), None);
}

#[rstest]
#[case::at_home(&[pod(Some("a"), "Succeeded", EARLY)], Some("a"), false)]
#[case::elsewhere(&[pod(Some("b"), "Succeeded", EARLY)], Some("a"), true)]
#[case::nobody_can_say(&[], Some("a"), true)]
#[case::not_done(&[pod(Some("a"), "Failed", EARLY)], Some("a"), true)]
#[case::without_nodes(&[pod(None, "Succeeded", EARLY)], None, false)]
fn what_was_done_elsewhere_does_not_count(
    #[case] pods: &[Pod],
    #[case] home: Option<&str>,
    #[case] is_astray: bool,
) {
    assert_eq!(astray(pods, home), is_astray);
}

#[test]
fn only_a_server_that_answers_tells_where_data_are() {
    let mut server = pod(Some("a"), "Running", EARLY);
    assert_eq!(serving_on(std::slice::from_ref(&server)), None);
    let ready = json!([{"type": "Ready", "status": "True"}]);
    server.status.as_mut().unwrap().conditions = serde_json::from_value(ready).unwrap();
    assert_eq!(serving_on(&[server]), Some("a"));
}

#[test]
fn a_volume_is_tied_by_a_label_of_its_node() {
    let tied = affinity("host");
    assert_eq!(host_of(&tied), Some("host"));
    let text = serde_json::to_value(&tied).unwrap();
    assert_eq!(
        text["required"]["nodeSelectorTerms"][0]["matchExpressions"][0],
        json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["host"]})
    );
    let zone = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "zone", "operator": "In", "values": ["host"]}]}]}});
    assert_eq!(host_of(&serde_json::from_value(zone).unwrap()), None);
}

#[rstest]
#[case(json!({}), false, None)]
#[case(json!({"otus.homework/volume": "v"}), true, None)]
#[case(json!({"otus.homework/volume": "v", "otus.homework/node": "a"}), false, Some("a"))]
fn a_folder_is_loose_until_it_is_tied(
    #[case] annotations: Value,
    #[case] loose: bool,
    #[case] node: Option<&str>,
) {
    let claim: PersistentVolumeClaim =
        serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap();
    assert_eq!((is_loose(&claim), tied(&claim)), (loose, node));
}

#[rstest]
#[case(
    None,
    Sight::Gone,
    "delete m-pvc and backup-m-pvc, and with them what they hold"
)]
#[case(Some(json!({})), Sight::Unlabelled, "no label kubernetes.io/hostname")]
#[case(Some(json!({"kubernetes.io/hostname": "h"})), Sight::There, "are folders of node a")]
fn where_volumes_are_is_said_with_what_is_wrong_there(
    #[case] labels: Option<Value>,
    #[case] sight: Sight,
    #[case] words: &str,
) {
    let node = labels.map(|labels| serde_json::from_value(json!({"metadata": {"labels": labels}})).unwrap());
    assert_eq!(Sight::of(node.as_ref()), sight);
    let text = elsewhere("a", sight, &["m-pvc", "backup-m-pvc"]);
    assert!(text.contains(words), "{text}");
}

/// What says to delete a claim must name none that is good.
#[rstest]
#[case::both(&["a", "a"], &["m-pvc"], &["a m-pvc backup-m-pvc"])]
#[case::data(&["a", "b"], &["m-pvc"], &["a m-pvc"])]
#[case::backups(&["a", "b"], &["backup-m-pvc"], &["b backup-m-pvc"])]
#[case::a_restore(&["a", "b"], &["m-pvc", "backup-m-pvc"], &["a m-pvc", "b backup-m-pvc"])]
#[case::no_folders(&[], &["m-pvc"], &[])]
fn of_a_node_only_what_is_tied_to_it_is_named(
    #[case] nodes: &[&str],
    #[case] mounted: &[&str],
    #[case] expected: &[&str],
) {
    let ties = ["m-pvc", "backup-m-pvc"].into_iter().zip(nodes);
    let ties: Vec<_> = ties
        .map(|(claim, node)| Tie {
            claim: claim.to_owned(),
            node: (*node).to_owned(),
        })
        .collect();
    let volumes: Vec<_> = mounted
        .iter()
        .map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}))
        .collect();
    let mut pod: Pod =
        serde_json::from_value(json!({"spec": {"containers": [], "volumes": volumes}})).unwrap();
    assert_eq!(
        homes(&ties, std::slice::from_ref(&pod)),
        BTreeMap::new(),
        "it may be on a node"
    );
    let unplaced = json!({"conditions": [{"type": "PodScheduled", "status": "False"}]});
    pod.status = serde_json::from_value(unplaced).unwrap();
    let found = homes(&ties, &[pod]);
    let told = |(node, claims): (&&str, &Vec<&str>)| format!("{node} {}", claims.join(" "));
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), expected);
    for (node, claims) in found {
        let text = elsewhere(node, Sight::Gone, &claims);
        for tie in &ties {
            let named = text.split([' ', ',']).any(|word| word == tie.claim);
            assert_eq!(named, tie.node == node, "{text}");
        }
    }
}

fn backup(phase: Phase, whose: Whose) -> Seen {
    Seen {
        whose,
        phase,
        id: Some("b1".into()),
        ..Seen::at_work("j")
    }
}

#[test]
fn backups_are_where_the_newest_was_taken_and_nowhere_only_when_none_can_be() {
    let (running, done) = (
        backup(Phase::Running, Whose::Ours),
        backup(Phase::Succeeded, Whose::Left),
    );
    let failed = Phase::Failed {
        at: None,
        why: String::new(),
    };
    let failed = backup(failed, Whose::Ours);
    let on = |phase: &str| [pod(Some("a"), phase, EARLY)];
    for newest in [None, Some("b1")] {
        assert_eq!(trace(newest, None, Some(&done), &on("Succeeded")), Trace::On("a"));
        assert_eq!(
            trace(newest, None, Some(&done), &[]),
            Trace::Unknown,
            "its Pod is gone"
        );
    }
    for job in [None, Some(&running), Some(&done), Some(&failed)] {
        assert_eq!(trace(Some("b2"), None, job, &on("Succeeded")), Trace::Unknown);
    }
    assert_eq!(trace(None, None, None, &[]), Trace::Nowhere);
    assert_eq!(trace(None, None, Some(&failed), &on("Failed")), Trace::Nowhere);
    assert_eq!(trace(None, None, Some(&running), &on("Running")), Trace::On("a"));
    assert_eq!(trace(None, None, Some(&running), &on("Failed")), Trace::Unknown);
    assert_eq!(
        trace(None, None, Some(&running), &[pod(None, "Pending", EARLY)]),
        Trace::Unknown
    );
    let foreign = backup(Phase::Running, Whose::Foreign);
    assert_eq!(trace(None, None, Some(&foreign), &on("Running")), Trace::Nowhere);
}

#[test]
fn a_job_that_is_older_than_a_volume_says_nothing_of_what_is_on_it() {
    let at = |time: &str| Some(time.parse::<Timestamp>().unwrap());
    let on = [pod(Some("a"), "Succeeded", EARLY)];
    let told = |whose: Whose, phase: Phase, job: Option<&str>| {
        let mut seen = backup(phase, whose);
        seen.made = job.and_then(at);
        trace(None, at(LATE), Some(&seen), &on)
    };
    for whose in [Whose::Left, Whose::Former] {
        assert_eq!(told(whose, Phase::Succeeded, Some(EARLY)), Trace::Nowhere);
        assert_eq!(told(whose, Phase::Succeeded, Some(LATE)), Trace::On("a"));
        assert_eq!(told(whose, Phase::Succeeded, None), Trace::On("a"));
        assert_eq!(
            told(whose, Phase::Running, Some(EARLY)),
            Trace::On("a"),
            "it writes on, to what its Pod has mounted"
        );
    }
    assert_eq!(told(Whose::Ours, Phase::Succeeded, Some(EARLY)), Trace::On("a"));
}

#[rstest]
#[case::of_this_claim(json!({"namespace": "ns", "name": "m-pvc", "uid": "c"}), true, true)]
#[case::given_to_none_yet(json!({"namespace": "ns", "name": "m-pvc"}), true, false)]
#[case::of_an_earlier_claim(json!({"namespace": "ns", "name": "m-pvc", "uid": "b"}), false, true)]
#[case::of_another_namespace(json!({"namespace": "other", "name": "m-pvc", "uid": "c"}), false, true)]
#[case::of_the_other_claim(json!({"namespace": "ns", "name": "backup-m-pvc", "uid": "c"}), false, true)]
fn whose_a_volume_is_stands_in_it_and_not_who_it_was_made_for(
    #[case] claim: Value,
    #[case] ours: bool,
    #[case] had: bool,
) {
    let mut volume: PersistentVolume = serde_json::from_value(
        json!({"spec": {"claimRef": claim, "hostPath": {"path": "/folder"}}, "status": {"phase": "Bound"}}),
    )
    .unwrap();
    assert_eq!(is_of(&volume, "ns", "m-pvc", Some("c")), ours);
    assert_eq!(had_claim(&volume), had);
    assert_eq!(folder(&volume).as_deref(), Some("/folder"));
    volume.spec.as_mut().unwrap().node_affinity = Some(affinity("a"));
    assert_eq!(folder(&volume).as_deref(), Some("/folder on node a"));
}
