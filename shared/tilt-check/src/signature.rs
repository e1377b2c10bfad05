//! Which functions there are, and what they take: Tilt's documented signatures.
//!
//! A parameter is `name:type`, with `?` after the name if it may be left out.

use serde_json::{Map, Value, json};

/// The functions that are modelled.
pub(crate) const MODELLED: &[(&str, &str)] = &[
    ("allow_k8s_contexts", "contexts:texts"),
    ("analytics_settings", "enable:bool"),
    ("blob", "contents:text"),
    (
        "ci_settings",
        "k8s_grace_period?:text timeout?:text readiness_timeout?:text",
    ),
    ("config.clear_enabled_resources", ""),
    ("config.define_bool", "name:text args?:bool usage?:text"),
    ("config.define_string", "name:text args?:bool usage?:text"),
    ("config.define_string_list", "name:text args?:bool usage?:text"),
    ("config.parse", ""),
    ("config.set_enabled_resources", "resources:texts"),
    (
        "custom_build",
        "ref:text command:command deps:texts tag?:text disable_push?:bool skips_local_docker?:bool live_update?:list \
         match_in_env_vars?:bool ignore?:texts entrypoint?:command command_bat_val?:text outputs_image_ref_to?:text \
         command_bat?:command image_deps?:texts env?:map dir?:text",
    ),
    ("decode_json", "json:content"),
    ("decode_yaml", "yaml:content"),
    ("decode_yaml_stream", "yaml:content"),
    (
        "default_registry",
        "host:text host_from_cluster?:text single_name?:text",
    ),
    (
        "docker_build",
        "ref:text context:text build_args?:map dockerfile?:text dockerfile_contents?:content live_update?:list \
         match_in_env_vars?:bool ignore?:texts only?:texts entrypoint?:command target?:text ssh?:texts network?:text \
         secret?:texts extra_tag?:texts container_args?:texts cache_from?:texts pull?:bool platform?:text \
         extra_hosts?:texts",
    ),
    (
        "docker_prune_settings",
        "disable?:bool max_age_mins?:int num_builds?:int interval_hrs?:int keep_recent?:int",
    ),
    ("encode_json", "obj:any"),
    ("encode_yaml", "obj:any"),
    ("encode_yaml_stream", "objs:list"),
    ("exec_action", "command:texts"),
    ("exit", "code?:any"),
    ("fail", "msg:any"),
    ("fall_back_on", "paths:texts"),
    (
        "helm",
        "pathToChartDir:text name?:text namespace?:text values?:texts set?:texts kube_version?:text skip_crds?:bool",
    ),
    ("http_get_action", "port:int host?:text scheme?:text path?:text"),
    ("include", "path:text"),
    ("initial_sync", ""),
    ("k8s_context", ""),
    ("k8s_namespace", ""),
    (
        "k8s_resource",
        "workload?:text new_name?:text port_forwards?:any extra_pod_selectors?:any trigger_mode?:mode resource_deps?:texts \
         objects?:texts auto_init?:bool pod_readiness?:text links?:any labels?:texts discovery_strategy?:text",
    ),
    ("k8s_yaml", "yaml:any allow_duplicates?:bool"),
    ("kustomize", "pathToDir:text kustomize_bin?:text flags?:texts"),
    ("link", "url:text name?:text"),
    ("listdir", "directory:text recursive?:bool"),
    ("load_dynamic", "path:text"),
    (
        "local",
        "command:command quiet?:bool command_bat?:command echo_off?:bool env?:map dir?:text stdin?:content",
    ),
    (
        "local_resource",
        "name:text cmd?:command deps?:texts trigger_mode?:mode resource_deps?:texts ignore?:texts auto_init?:bool \
         serve_cmd?:command cmd_bat?:command serve_cmd_bat?:command allow_parallel?:bool links?:any labels?:texts env?:map \
         serve_env?:map readiness_probe?:any dir?:text serve_dir?:text",
    ),
    ("os.getcwd", ""),
    ("os.getenv", "key:text default?:any"),
    ("os.putenv", "key:text value:text"),
    ("os.path.abspath", "path:text"),
    ("os.path.basename", "path:text"),
    ("os.path.dirname", "path:text"),
    ("os.path.exists", "path:text"),
    ("os.path.join", "path:text paths*:text"),
    ("os.path.realpath", "path:text"),
    (
        "port_forward",
        "local_port:int container_port?:int name?:text link_path?:text host?:text",
    ),
    (
        "probe",
        "initial_delay_secs?:int timeout_secs?:int period_secs?:int success_threshold?:int failure_threshold?:int exec?:any \
         http_get?:any tcp_socket?:any",
    ),
    ("read_file", "file_path:text default?:any"),
    ("read_json", "path:text default?:any"),
    ("read_yaml", "path:text default?:any"),
    ("read_yaml_stream", "path:text default?:any"),
    ("restart_container", ""),
    ("run", "cmd:command trigger?:texts echo_off?:bool"),
    ("secret_settings", "disable_scrub?:bool"),
    ("shlex.quote", "s:text"),
    ("sync", "local_path:text remote_path:text"),
    ("tcp_socket_action", "port:int host?:text"),
    ("trigger_mode", "trigger_mode:mode"),
    (
        "update_settings",
        "max_parallel_updates?:int k8s_upsert_timeout_secs?:int suppress_unused_image_warnings?:texts \
         k8s_server_side_apply?:text",
    ),
    (
        "v1alpha1.cmd",
        "name:text labels?:map annotations?:map args?:texts dir?:text env?:texts readiness_probe?:any restart_on?:any \
         start_on?:any disable_source?:any",
    ),
    (
        "v1alpha1.ui_button",
        "name:text labels?:map annotations?:map location?:any text?:text icon_name?:text icon_svg?:text disabled?:bool \
         requires_confirmation?:bool show_inputs_as_modal?:bool inputs?:list",
    ),
    ("version_settings", "check_updates?:bool constraint?:text"),
    ("warn", "msg:text"),
    ("watch_file", "file_path:text"),
    ("watch_settings", "ignore:texts"),
];

/// Tilt's other functions, which are known and refused.
const OTHERS: &[&str] = &[
    "dc_resource",
    "disable_snapshots",
    "docker_compose",
    "enable_feature",
    "filter_yaml",
    "k8s_custom_deploy",
    "k8s_kind",
    "os.path.relpath",
    "os.unsetenv",
    "set_team",
    "v1alpha1.config_map",
    "v1alpha1.extension",
    "v1alpha1.extension_repo",
    "v1alpha1.file_watch",
    "v1alpha1.kubernetes_apply",
    "v1alpha1.kubernetes_discovery",
    "workload_to_resource_function",
];

/// What the function takes; nothing for one that is not modelled.
pub(crate) fn of(function: &str) -> Option<&'static str> {
    MODELLED
        .iter()
        .find(|(name, _)| *name == function)
        .map(|(_, parameters)| *parameters)
}

/// Every name that a Tiltfile finds: functions and `constants`, an object by their names, those in modules with dots.
pub(crate) fn names(constants: &Value) -> Value {
    let mut all = Map::new();
    let functions = MODELLED
        .iter()
        .map(|(name, _)| *name)
        .chain(OTHERS.iter().copied());
    for name in functions {
        insert(&mut all, name, json!({ "call": name }));
    }
    for (name, value) in constants.as_object().into_iter().flatten() {
        insert(&mut all, name, json!({ "value": value }));
    }
    Value::Object(all)
}

fn insert(into: &mut Map<String, Value>, name: &str, entry: Value) {
    let Some((module, rest)) = name.split_once('.') else {
        into.insert(name.to_owned(), entry);
        return;
    };
    let module = into.entry(module).or_insert_with(|| json!({ "module": {} }));
    if let Some(members) = module["module"].as_object_mut() {
        insert(members, rest, entry);
    }
}
