//! Each operator as a chart, as one manifest, and as a base for Kustomize; all three from the chart.
//!
//! The manifest has what the chart installs with leader election, in the namespace `<chart>-system`, which it makes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Args, write as put};
use crate::{
    build,
    charts::{CHARTS, Chart},
    images::hex,
    workspace,
};

/// Where a namespace stands that Kustomize does not know of, so that an overlay's `namespace` reaches it.
const FIELDS: &str = "\
namespace:
  - path: spec/paramRef/namespace
    kind: ValidatingAdmissionPolicyBinding
";
/// What a base calls that.
const FIELDS_FILE: &str = "namespaces.yaml";

/// The label of what an uninstall deletes: all but the definitions and the namespace.
const COMPONENT: &str = "app.kubernetes.io/component=controller-manager";

/// Before each template's output.
const SOURCE: &str = "# Source: ";

/// Writes everything into `folder`, anew.
pub(super) fn write(folder: &Path, args: &Args) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let helm = Helm::find(args)?;
    for chart in CHARTS {
        // What the package renders, not its sources, whose version is another.
        let package = helm.package(chart, folder)?;
        let parts = helm.parts(chart, &package)?;
        put(
            &folder.join(format!("{}-install.yaml", chart.name)),
            &manifest(chart, &parts),
        )?;
        write_base(
            &folder.join("kustomize").join(chart.name),
            chart,
            &parts,
            &args.version,
        )?;
    }
    put(&folder.join("SHA256SUMS"), &sums(folder)?)
}

/// Everything in one file, which begins with how it is taken away: deleting it as it stands would delete the definitions,
/// and with them every object of their kinds.
fn manifest(chart: &Chart, parts: &Parts) -> String {
    let name = chart.name;
    let mut text = format!(
        "# Install or upgrade: kubectl apply --server-side -f {name}-install.yaml\n\
         # Uninstall:          kubectl delete -f {name}-install.yaml -l {COMPONENT}\n#\n\
         # Without the label the definitions are deleted too, and with them EVERY OBJECT of their kinds in the cluster.\n"
    );
    text.extend(parts.values().map(String::as_str));
    text
}

/// A folder that `kustomize build` takes, and that others refer to as a base.
fn write_base(folder: &Path, chart: &Chart, parts: &Parts, version: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in parts {
        put(&folder.join(name), text)?;
    }
    put(&folder.join(FIELDS_FILE), FIELDS)?;
    let names: Vec<_> = parts.keys().collect();
    let base = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": names,
        "configurations": [FIELDS_FILE],
        "images": [{"name": image_of(chart, parts)?, "newTag": version}],
    });
    let text = serde_saphyr::to_string(&base).context("cannot write YAML")?;
    put(&folder.join("kustomization.yaml"), &text)
}

/// The image's name in the manifest, without its tag.
fn image_of(chart: &Chart, parts: &Parts) -> Result<String> {
    let deployment = parts.get("deployment.yaml").context("no Deployment")?;
    let line = deployment
        .lines()
        .find_map(|line| line.trim().strip_prefix("image: "));
    let image = line
        .with_context(|| format!("{} has no image", chart.name))?
        .trim_matches('"');
    Ok(image.rsplit_once(':').map_or(image, |(name, _)| name).to_owned())
}

/// The hash of each file, as `sha256sum --check` reads it.
fn sums(folder: &Path) -> Result<String> {
    let mut lines = Vec::new();
    for path in files(folder)? {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(folder)?.display().to_string();
        lines.push(format!("{}  {name}\n", hex(&bytes)));
    }
    lines.sort_by(|one, other| one[64..].cmp(&other[64..]));
    Ok(lines.concat())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// What a chart renders, by file.
type Parts = BTreeMap<String, String>;

struct Helm {
    program: PathBuf,
    registry: String,
    version: String,
}

impl Helm {
    fn find(args: &Args) -> Result<Self> {
        let program = if let Some(program) = &args.helm {
            program.clone()
        } else {
            let testkit = build::programs(&[])?;
            let output = Command::new(testkit.program("testkit")?)
                .args(["tools", "helm"])
                .output()
                .context("cannot start testkit")?;
            ensure!(output.status.success(), "`testkit tools helm` failed");
            PathBuf::from(String::from_utf8(output.stdout)?.trim())
        };
        Ok(Self {
            program,
            registry: args.registry.clone(),
            version: args.version.clone(),
        })
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        // Nothing of a cluster that the person who runs this has in mind.
        command.args(arguments).env("KUBECONFIG", "/dev/null");
        let shown = workspace::shown(&command);
        let output = command
            .output()
            .with_context(|| format!("cannot start `{shown}`"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{shown}` failed: {}", said.trim());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Packs the chart; returns where it is.
    fn package(&self, chart: &Chart, folder: &Path) -> Result<PathBuf> {
        let version = self.version.trim_start_matches('v');
        let (path, destination) = (path(chart), folder.to_string_lossy());
        let flags = ["--version", version, "--app-version", version, "--destination"];
        self.run(&[&["package", &path][..], &flags, &[&destination]].concat())?;
        Ok(folder.join(format!("{}-{version}.tgz", chart.name)))
    }

    /// What is installed without helm, of a packed chart.
    fn parts(&self, chart: &Chart, package: &Path) -> Result<Parts> {
        let namespace = namespace(chart);
        let mut arguments = vec![
            "template".to_owned(),
            chart.name.to_owned(),
            package.to_string_lossy().into_owned(),
            "--skip-tests".to_owned(),
            format!("--namespace={namespace}"),
            "--kube-version=1.34.0".to_owned(),
            format!("--set=global.imageRegistry={}", self.registry),
            format!("--set=image.tag={}", self.version),
            "--set=leaderElect=true".to_owned(),
        ];
        arguments.extend(chart.installed_with.iter().map(|value| format!("--set={value}")));
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let mut parts = split(&self.run(&arguments)?)?;
        let level = if chart.privileged {
            "privileged"
        } else {
            "restricted"
        };
        let first = format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n  labels:\n    \
             pod-security.kubernetes.io/enforce: {level}\n"
        );
        // By its name before all that stands in it.
        parts.insert("_namespace.yaml".to_owned(), first);
        Ok(parts)
    }
}

fn path(chart: &Chart) -> String {
    let path = workspace::root().join("charts").join(chart.name);
    path.to_string_lossy().into_owned()
}

fn namespace(chart: &Chart) -> String {
    format!("{}-system", chart.name)
}

/// What helm printed, by the file of the template that each document comes from.
fn split(rendered: &str) -> Result<Parts> {
    let mut parts = Parts::new();
    for document in rendered
        .split("---\n")
        .filter(|document| !document.trim().is_empty())
    {
        let (source, text) = document
            .strip_prefix(SOURCE)
            .and_then(|rest| rest.split_once('\n'))
            .with_context(|| format!("helm has printed something without its source: {document:.80}"))?;
        let name = source.rsplit('/').next().unwrap_or(source);
        // It is not helm that looks after them.
        let text = text.replace(
            "app.kubernetes.io/managed-by: Helm",
            "app.kubernetes.io/managed-by: kubectl",
        );
        let part = parts.entry(name.to_owned()).or_default();
        *part += "---\n";
        *part += &text;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_says_first_how_to_take_it_away_without_the_objects() {
        let parts = Parts::from([("a.yaml".to_owned(), "---\nkind: A\n".to_owned())]);
        let text = manifest(&CHARTS[0], &parts);
        assert!(text.ends_with("\n---\nkind: A\n"), "{text}");
        let expected = format!(
            "kubectl delete -f {}-install.yaml -l {COMPONENT}\n",
            CHARTS[0].name
        );
        assert!(text.contains(&expected), "{text}");
    }

    #[test]
    fn documents_are_split_by_the_template_that_they_come_from() {
        let rendered = "---\n# Source: c/templates/a.yaml\nkind: A\n---\n# Source: c/templates/b.yaml\nkind: B\n\
                        ---\n# Source: c/templates/a.yaml\nkind: C\n";
        let parts = split(rendered).unwrap();
        assert_eq!(parts["a.yaml"], "---\nkind: A\n---\nkind: C\n");
        assert_eq!(parts["b.yaml"], "---\nkind: B\n");
        assert!(split("kind: A\n").is_err());
    }
}
