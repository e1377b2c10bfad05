//! What a Tiltfile has other programs say: helm, kustomize, the shell.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{Setting, arguments::Arguments, files, interpreter::Call, session::Session};

/// Runs the program that the call means and gives what it printed.
pub(crate) fn output(session: &Session<'_>, call: &Call, arguments: &Arguments) -> Result<String, String> {
    let environment = &session.environment;
    match call.name.as_str() {
        "helm" => {
            let program = session.setting.helm.as_ref().ok_or("helm is not installed")?;
            run(helm(session.setting, program, call, arguments)?.envs(environment))
                .map(|text| without_tests(&text))
        }
        "kustomize" => {
            let program = session
                .setting
                .kustomize
                .as_ref()
                .ok_or("kustomize is not installed")?;
            let folder = files::absolute(call, &arguments.text("pathToDir"));
            run(Command::new(program)
                .arg("build")
                .args(arguments.texts("flags"))
                .arg(folder)
                .envs(environment))
        }
        _ => run(local(call, arguments)?.envs(environment)),
    }
}

fn helm(setting: &Setting, program: &Path, call: &Call, arguments: &Arguments) -> Result<Command, String> {
    let chart = files::absolute(call, &arguments.text("pathToChartDir"));
    if !Path::new(&chart).join("Chart.yaml").is_file() {
        return Err(format!("{chart} is no chart: it has no Chart.yaml"));
    }
    let name = Some(arguments.text("name")).filter(|name| !name.is_empty());
    let mut command = Command::new(program);
    command
        .arg("template")
        .arg(name.unwrap_or_else(|| "chart".to_owned()));
    command.arg(chart).arg("--include-crds");
    if arguments.value("namespace").is_some() {
        command.arg("--namespace").arg(arguments.text("namespace"));
    }
    let version = Some(arguments.text("kube_version")).filter(|version| !version.is_empty());
    command
        .arg("--kube-version")
        .arg(version.as_ref().unwrap_or(&setting.kube_version));
    for file in arguments.texts("values") {
        command.arg("--values").arg(files::absolute(call, &file));
    }
    for value in arguments.texts("set") {
        command.arg("--set").arg(value);
    }
    Ok(command)
}

/// Tilt deploys no tests of charts.
fn without_tests(text: &str) -> String {
    let is_test = |document: &&str| {
        let hook = |line: &str| line.trim().replace('"', "").starts_with("helm.sh/hook: test");
        !document.lines().any(hook)
    };
    text.split("\n---")
        .filter(is_test)
        .collect::<Vec<_>>()
        .join("\n---")
}

/// A string is for the shell, a list is a program with its arguments.
fn local(call: &Call, arguments: &Arguments) -> Result<Command, String> {
    let words = arguments.texts("command");
    let mut command = if arguments.value("command").is_some_and(Value::is_array) {
        let (program, rest) = words.split_first().ok_or("empty cmd")?;
        let mut command = Command::new(program);
        command.args(rest);
        command
    } else {
        let mut command = Command::new("sh");
        command.arg("-c").args(&words);
        command
    };
    command.current_dir(files::folder(call).join(arguments.text("dir")));
    command.envs(arguments.map("env"));
    Ok(command)
}

pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|error| format!("{shown}: {error}"));
    }
    Err(format!(
        "{shown}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Replaces `${NAME}`, `${NAME:=default}` and `${NAME:-default}` as the shell does; `$$` is a dollar.
pub(crate) fn substituted(text: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let (mut result, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = inner.find('}').ok_or("a variable has no end")?;
            let (name, default) = inner[..end]
                .split_once(":=")
                .or_else(|| inner[..end].split_once(":-"))
                .unwrap_or((&inner[..end], ""));
            result.push_str(variables.get(name).map_or(default, String::as_str));
            rest = &inner[end + 1..];
        } else {
            result.push('$');
            rest = after;
        }
    }
    Ok(result + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_as_in_a_shell() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(
            substituted("${A} ${B:=two} ${A:=x} ${C} $$ ${D:-d}", &variables).unwrap(),
            "1 two 1  $ d"
        );
        substituted("${A", &variables).unwrap_err();
    }
}
