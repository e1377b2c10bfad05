//! What stands in the README, the documentation, the examples and the source tree keeps to its form.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Secret, Service},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// The files below `folder` with this extension, build output left out.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let skipped = path
            .file_name()
            .is_some_and(|name| name == "target" || name == ".git");
        if path.is_dir() && !skipped {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|of| of == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn the_readme_is_short_and_names_the_commands() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let lines = readme.lines().count();
    assert!(
        lines <= 200,
        "README.md has {lines} lines, at most 200 are wanted"
    );
    for command in [
        "cargo xtask up",
        "cargo xtask test",
        "kubectl get",
        "helm install",
        "clusterctl init --infrastructure",
        "clusterctl generate cluster",
        "kubectl apply --server-side -f",
    ] {
        assert!(readme.contains(command), "README.md does not name `{command}`");
    }
    // The picture of the architecture.
    assert!(
        readme.contains("observe -> plan -> act -> report"),
        "README.md has no picture of what an operator is"
    );
}

/// What is written for people: the documents in the root, in `docs/`, of the charts and of the examples.
fn documents() -> Vec<PathBuf> {
    let in_root = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = in_root
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    for folder in ["docs", "charts", "examples"] {
        all.extend(files(&root().join(folder), "md"));
    }
    all
}

/// The text without blocks of code, in which brackets mean something else.
fn prose(text: &str) -> String {
    let mut in_code = false;
    let kept = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    });
    kept.collect::<Vec<_>>().join("\n")
}

/// What a link to a heading says behind its `#`.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|of| of.is_alphanumeric() || " -_".contains(*of));
    kept.map(|of| if of == ' ' { '-' } else { of }).collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut links = 0;
    for document in documents() {
        let text = prose(&fs::read_to_string(&document).unwrap());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (target, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = match target {
                "" => document.clone(),
                target => document.parent().unwrap().join(target),
            };
            assert!(
                path.exists(),
                "{} links to {target}, which does not exist",
                shown(&document)
            );
            if heading.is_empty() {
                continue;
            }
            let there = prose(&fs::read_to_string(&path).unwrap());
            assert!(
                there
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line) == heading),
                "{} links to {link}, and there is no such heading",
                shown(&document)
            );
        }
    }
    assert!(links > 50, "only {links} links were found");
}

#[test]
fn an_anchor_is_what_a_browser_is_sent_to() {
    assert_eq!(
        anchor("## A reconcile is observe → plan → act → report"),
        "a-reconcile-is-observe--plan--act--report"
    );
    assert_eq!(anchor("# Cluster API's `Tiltfile`"), "cluster-apis-tiltfile");
}

#[test]
fn every_condition_and_reason_is_documented() {
    let page = fs::read_to_string(root().join("docs/dynamodb.md")).unwrap();
    let types = dynamodb_api::ConditionType::ALL.iter().map(|of| of.as_str());
    for name in types.chain(dynamodb_api::Reason::ALL.iter().map(|of| of.as_str())) {
        assert!(
            page.contains(&format!("| `{name}` |")),
            "docs/dynamodb.md does not explain `{name}`"
        );
    }
}

/// What a page explains: names in code, and those that stand first in a row of a table.
fn explained(pages: &[&str]) -> BTreeSet<String> {
    let text: String = pages
        .iter()
        .map(|page| prose(&fs::read_to_string(root().join(page)).unwrap()))
        .collect();
    let code = text.split('`').skip(1).step_by(2);
    let cells = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .flat_map(|cell| cell.split(", "));
    let words = code.chain(cells);
    // As in `Ready=False/AuthorityUnusable`.
    let words = words.flat_map(|word| word.split(['=', '/']));
    words
        .map(|word| word.trim_matches(['`', ' ']).to_owned())
        .collect()
}

#[test]
fn every_condition_and_reason_of_the_mysql_kinds_is_explained() {
    use mysql_api::database;
    let of_clusters = explained(&["docs/mysql-conditions.md"]);
    let types = mysql_api::ConditionType::ALL.iter().map(|of| of.as_str());
    for name in types.chain(mysql_api::Reason::ALL.iter().map(|of| of.as_str())) {
        assert!(
            of_clusters.contains(name),
            "docs/mysql-conditions.md does not explain {name}"
        );
    }
    let of_servers = explained(&["docs/mysql-instance.md"]);
    let types = database::ConditionType::ALL.iter().map(|of| of.as_str());
    for name in types.chain(database::Reason::ALL.iter().map(|of| of.as_str())) {
        assert!(
            of_servers.contains(name),
            "docs/mysql-instance.md does not explain {name}"
        );
    }
}

/// The text literals that stand behind one of these in a source, if they are a single word in CamelCase.
fn literals<'a>(source: &'a str, before: &[&str]) -> Vec<&'a str> {
    let behind = before.iter().flat_map(|before| source.split(*before).skip(1));
    let texts = behind.filter_map(|rest| {
        let rest = rest.trim_start().trim_start_matches('(').trim_start();
        rest.strip_prefix('"')?.split('"').next()
    });
    texts
        .filter(|text| text.starts_with(char::is_uppercase) && text.chars().all(char::is_alphanumeric))
        .collect()
}

#[test]
fn every_event_of_the_mysql_operator_is_explained() {
    let told = explained(&["docs/mysql-conditions.md"]);
    let folder = root().join("operators/mysql/controller/src");
    let mut events = BTreeSet::new();
    for source in files(&folder, "rs") {
        let text = fs::read_to_string(&source).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        // A notice's reason, how passes tell one, and what the steps of one are called.
        let notices = [
            "reason: ",
            "EventKind::Normal,",
            "EventKind::Warning,",
            ".tell(",
            ".warn(",
        ];
        events.extend(literals(text, &notices).into_iter().map(str::to_owned));
        if source.ends_with("story.rs") {
            events.extend(literals(text, &["=> ("]).into_iter().map(str::to_owned));
        }
        // The reason of an error is that of the event about it.
        for reason in text.split("fn reason(&self) -> &'static str {").skip(1) {
            let body = reason.split("\n    }").next().unwrap();
            events.extend(literals(body, &["=> "]).into_iter().map(str::to_owned));
        }
    }
    for known in [
        "Launched",
        "CleanupComplete",
        "DeletedWithoutBackup",
        "FrozenParametersDamaged",
    ] {
        assert!(events.contains(known), "{known} is not found: {events:?}");
    }
    for event in &events {
        assert!(
            told.contains(event),
            "docs/mysql-conditions.md does not explain the event {event}"
        );
    }
}

/// Files that are still to be split. The list only gets shorter: one that no longer is too long must leave it.
const TO_BE_SPLIT: &[&str] = &[];

#[test]
fn no_source_file_is_longer_than_400_lines() {
    let sources = files(&root(), "rs");
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    let lines = |source: &Path| fs::read_to_string(source).unwrap().lines().count();
    let long: Vec<_> = sources
        .iter()
        .filter(|source| (lines(source) > 400) != TO_BE_SPLIT.contains(&shown(source).as_str()))
        .map(|source| shown(source))
        .collect();
    assert!(
        long.is_empty(),
        "more than 400 lines, split them (or split by now, take them off the list): {}",
        long.join(", ")
    );
}

#[test]
fn every_example_is_what_its_type_says() {
    let examples = files(&root().join("examples"), "yaml");
    assert!(!examples.is_empty());
    for example in examples {
        let name = shown(&example);
        let objects: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(&example).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!objects.is_empty(), "{name} is empty");
        for object in objects {
            match object["kind"].as_str().unwrap_or_default() {
                "DdbctlDpJob" => round_trip::<dynamodb_api::DdbctlDpJob>(&name, &object),
                "DockerCluster" => round_trip::<docker_api::DockerCluster>(&name, &object),
                "DockerClusterTemplate" => round_trip::<docker_api::DockerClusterTemplate>(&name, &object),
                "DockerMachine" => round_trip::<docker_api::DockerMachine>(&name, &object),
                "DockerMachineTemplate" => round_trip::<docker_api::DockerMachineTemplate>(&name, &object),
                "MySQLCluster" => round_trip::<mysql_api::MySQLCluster>(&name, &object),
                "MySQL" => round_trip::<mysql_api::MySQL>(&name, &object),
                "Secret" => round_trip::<Secret>(&name, &object),
                "Namespace" => round_trip::<Namespace>(&name, &object),
                "Deployment" => round_trip::<Deployment>(&name, &object),
                "Service" => round_trip::<Service>(&name, &object),
                // Cluster API's own kinds stand beside ours and have no types here.
                _ if object["apiVersion"]
                    .as_str()
                    .is_some_and(|of| of.contains("cluster.x-k8s.io/")) => {}
                kind => panic!("{name}: there is no type for kind {kind:?}"),
            }
        }
    }
}

#[test]
fn every_kind_has_an_example_in_the_table() {
    let index = fs::read_to_string(root().join("examples/README.md")).unwrap();
    let definitions = files(&root().join("crds"), "yaml");
    assert!(definitions.len() >= 7, "only {} kinds", definitions.len());
    for definition in definitions {
        let parsed: Value = serde_saphyr::from_str(&fs::read_to_string(&definition).unwrap()).unwrap();
        let kind = parsed["spec"]["names"]["kind"].as_str().unwrap();
        let row = index
            .lines()
            .find(|line| line.starts_with(&format!("| `{kind}` |")))
            .unwrap_or_else(|| panic!("examples/README.md has no row for {kind}"));
        let mut linked = row
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .map(|path| fs::read_to_string(root().join("examples").join(path)).unwrap());
        assert!(
            linked.any(|text| text.contains(&format!("\nkind: {kind}\n"))),
            "no example in the row of {kind} has one"
        );
    }
}

/// A field that its type does not know would be gone after the round trip.
fn round_trip<K: DeserializeOwned + serde::Serialize>(name: &str, object: &Value) {
    let typed: K = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_kept(name, "", object, &serde_json::to_value(typed).unwrap());
}

fn assert_kept(name: &str, path: &str, written: &Value, read: &Value) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (key, value) in written {
                let inner = read
                    .get(key)
                    .unwrap_or_else(|| panic!("{name}: no type knows the field {path}.{key}"));
                assert_kept(name, &format!("{path}.{key}"), value, inner);
            }
        }
        // A kind that is served in several versions has one schema, and the type is written in the newest.
        _ if path == ".apiVersion" => assert_eq!(group(written), group(read), "{name}: {path}"),
        _ => assert_eq!(written, read, "{name}: {path}"),
    }
}

/// The API group of an `apiVersion`.
fn group(version: &Value) -> &str {
    let (group, _) = version
        .as_str()
        .and_then(|text| text.split_once('/'))
        .unwrap_or_default();
    group
}
