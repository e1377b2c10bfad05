//! Where a table is looked for.

use testkit::dynamodb::KeyType;

use super::{World, run};
use crate::bed::{VICTIM, written};

#[tokio::test(flavor = "multi_thread")]
async fn where_a_table_is_looked_for_is_as_with_awss_own_tools_and_said() {
    let world = World::new(50).await;
    let folder = world.home.path().join(".aws");
    std::fs::create_dir(&folder).unwrap();
    let profiles = "[profile prod]\nregion = eu-west-3\n[profile bare]\n";
    std::fs::write(folder.join("config"), profiles).unwrap();
    let (url, value) = (world.proxy.endpoint(), written(KeyType::S, VICTIM));
    let prod = ("AWS_PROFILE", "prod");
    for (flags, environment, region) in [
        (vec![], vec![("AWS_REGION", "")], "us-east-1"),
        (vec![], vec![prod], "eu-west-3"),
        (vec![], vec![("AWS_PROFILE", "bare")], "us-east-1"),
        (
            vec![],
            vec![prod, ("AWS_DEFAULT_REGION", "eu-west-2")],
            "eu-west-2",
        ),
        (
            vec!["-r", "eu-west-1"],
            vec![prod, ("AWS_REGION", "eu-west-2")],
            "eu-west-1",
        ),
    ] {
        let mut command = world.command(&["-t", "Orders", "-p", &value, "--dry-run"]);
        command
            .args(&flags)
            .envs(environment.clone())
            .env("AWS_ENDPOINT_URL", &url);
        let said = run(command).await;
        assert_eq!((said.code, said.figure("items (")), (0, 50), "{said:?}");
        let place = format!("Orders at {} (region {region}): ", url.trim_end_matches('/'));
        assert!(said.out.contains(&place), "{flags:?} {environment:?}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_found_in_the_environment_and_the_profile_unless_that_is_to_be_ignored() {
    let world = World::new(50).await;
    let (url, value) = (world.proxy.endpoint(), written(KeyType::S, VICTIM));
    let folder = world.home.path().join(".aws");
    std::fs::create_dir(&folder).unwrap();
    let profile = format!("[profile dev]\nregion = eu-west-3\nendpoint_url = {url}\n");
    std::fs::write(folder.join("config"), profile).unwrap();
    let nobody = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let dynamodb = ("AWS_ENDPOINT_URL_DYNAMODB", url.as_str());
    let dev = ("AWS_PROFILE", "dev");
    let ignored = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
    for (environment, found) in [
        (vec![dev], true),
        (vec![dev, nobody], false),
        (vec![nobody, dynamodb], true),
        (vec![dev, dynamodb, ignored], false),
    ] {
        let mut command = world.command(&["-t", "Orders", "-p", &value, "--dry-run"]);
        command.envs(environment.clone());
        let said = run(command).await;
        assert_eq!(said.code == 0, found, "{environment:?}: {said:?}");
    }
}
