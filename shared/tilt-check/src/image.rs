//! Images that are built, and the references by which objects find them.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use crate::{
    arguments::Arguments,
    files,
    interpreter::Call,
    live_update::{LiveUpdate, Unused},
};

/// An image that is built.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) reference: String,
    /// The context of a Docker build; nothing for other builds.
    pub(crate) context: String,
    pub(crate) build_args: BTreeMap<String, String>,
    pub(crate) target: String,
    /// Images that its Dockerfile begins from.
    pub(crate) bases: Vec<String>,
    pub(crate) update: LiveUpdate,
}

impl Image {
    /// `docker_build`.
    pub(crate) fn docker(call: &Call, arguments: &Arguments, unused: &mut Unused) -> Result<Self, String> {
        let context = files::absolute(call, &arguments.text("context"));
        let dockerfile = match (
            arguments.value("dockerfile"),
            arguments.value("dockerfile_contents"),
        ) {
            (Some(_), Some(_)) => {
                return Err(
                    "Cannot specify both dockerfile and dockerfile_contents keyword arguments".to_owned(),
                );
            }
            (_, Some(_)) => arguments.text("dockerfile_contents"),
            (Some(_), None) => dockerfile(&files::absolute(call, &arguments.text("dockerfile")))?,
            (None, None) => dockerfile(&format!("{context}/Dockerfile"))?,
        };
        if let Some(pattern) = arguments
            .texts("only")
            .iter()
            .find(|path| path.contains(['*', '?', '[']))
        {
            return Err(format!(
                "'only' does not support '*' file globs. Must be a real path: {pattern}"
            ));
        }
        let target = arguments.text("target");
        if !target.is_empty() && !stages(&dockerfile).contains(&target) {
            return Err(format!("the Dockerfile has no stage {target:?}"));
        }
        let update =
            LiveUpdate::from_steps(&arguments.list("live_update"), unused).map_err(|why| in_update(&why))?;
        update
            .within(std::slice::from_ref(&context))
            .map_err(|why| in_update(&why))?;
        Ok(Self {
            reference: reference(&arguments.text("ref"))?,
            context,
            build_args: arguments.map("build_args"),
            target,
            bases: bases(&dockerfile, arguments),
            update,
        })
    }

    /// `custom_build`.
    pub(crate) fn custom(call: &Call, arguments: &Arguments, unused: &mut Unused) -> Result<Self, String> {
        let deps = arguments.texts("deps");
        if deps.is_empty() {
            return Err("Argument 3 (deps) can't be empty".to_owned());
        }
        let watched: Vec<_> = deps.iter().map(|path| files::absolute(call, path)).collect();
        let update =
            LiveUpdate::from_steps(&arguments.list("live_update"), unused).map_err(|why| in_update(&why))?;
        update.within(&watched).map_err(|why| in_update(&why))?;
        Ok(Self {
            reference: reference(&arguments.text("ref"))?,
            context: String::new(),
            build_args: BTreeMap::new(),
            target: String::new(),
            bases: arguments.texts("image_deps"),
            update,
        })
    }

    /// Whether this is the image of a container. A reference with a tag stands for that tag only.
    pub(crate) fn is(&self, of_container: &str) -> bool {
        let [(own_name, own_tag), (name, tag)] =
            [&self.reference, of_container].map(|reference| parts(reference));
        own_name == name && (own_tag.is_none() || own_tag == tag)
    }
}

fn in_update(why: &str) -> String {
    format!("live_update: {why}")
}

fn dockerfile(path: &str) -> Result<String, String> {
    files::read(path, None)
        .map(Result::unwrap_or_default)
        .map_err(|why| format!("error reading dockerfile: {why}"))
}

/// The names of a Dockerfile's stages.
fn stages(dockerfile: &str) -> Vec<String> {
    from_lines(dockerfile)
        .filter_map(|words| {
            words
                .iter()
                .position(|word| word.eq_ignore_ascii_case("as"))
                .and_then(|at| words.get(at + 1).cloned())
        })
        .collect()
}

/// What a Dockerfile begins from, with the arguments of the build filled in.
fn bases(dockerfile: &str, arguments: &Arguments) -> Vec<String> {
    let values = arguments.map("build_args");
    from_lines(dockerfile)
        .filter_map(|words| words.iter().find(|word| !word.starts_with("--")).cloned())
        .map(|base| {
            values.iter().fold(base, |base, (name, value)| {
                base.replace(&format!("${{{name}}}"), value)
                    .replace(&format!("${name}"), value)
            })
        })
        .collect()
}

fn from_lines(dockerfile: &str) -> impl Iterator<Item = Vec<String>> {
    dockerfile.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("from"))
            .then(|| words.map(str::to_owned).collect())
    })
}

/// The reference, if it is one.
fn reference(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"./-_:".contains(&byte);
    let (name, _) = parts(text);
    let named = name.split('/').all(|part| !part.is_empty());
    if named && name.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "Argument 1 (ref): can't parse {text:?}: invalid reference format"
    ))
}

/// Name, without what Docker adds to it, and tag.
fn parts(reference: &str) -> (&str, Option<&str>) {
    let reference = reference.split('@').next().unwrap_or(reference);
    let from = reference.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match reference[from..].rfind(':') {
        Some(colon) => (&reference[..from + colon], Some(&reference[from + colon + 1..])),
        None => (reference, None),
    };
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    (name.strip_prefix("library/").unwrap_or(name), tag)
}

/// The images of an object's containers.
pub(crate) fn of_object(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(object, &mut found);
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if matches!(key.as_str(), "containers" | "initContainers") {
                    let containers = value.as_array().into_iter().flatten();
                    found.extend(
                        containers.filter_map(|container| Some(container.get("image")?.as_str()?.to_owned())),
                    );
                }
                collect(value, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

/// Whether the folder is there, which Docker finds out only when it builds.
pub(crate) fn context_is_missing(image: &Image) -> bool {
    !image.context.is_empty() && !Path::new(&image.context).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(reference: &str) -> Image {
        Image {
            reference: reference.to_owned(),
            context: String::new(),
            build_args: BTreeMap::new(),
            target: String::new(),
            bases: Vec::new(),
            update: LiveUpdate::default(),
        }
    }

    #[test]
    fn a_name_stands_for_all_tags_and_a_tag_for_itself() {
        assert!(image("manager").is("manager:v1"));
        assert!(image("manager").is("docker.io/library/manager"));
        assert!(image("r:5000/team/manager").is("r:5000/team/manager@sha256:00"));
        assert!(image("r/manager:dev").is("r/manager:dev"));
        assert!(!image("r/manager:dev").is("r/manager:v1"));
        assert!(!image("manager").is("team/manager"));
    }

    #[test]
    fn a_dockerfile_tells_its_stages_and_bases() {
        let text = "ARG BASE=x\nFROM --platform=linux/amd64 ${BASE} AS dev\nRUN true\nFROM dev AS debug\n";
        assert_eq!(stages(text), ["dev", "debug"]);
        let mut arguments = serde_json::Map::new();
        arguments.insert("build_args".to_owned(), serde_json::json!({"BASE": "debian:13"}));
        let bound = Arguments::bind("build_args?:map", &[], &arguments).unwrap();
        assert_eq!(bases(text, &bound), ["debian:13", "dev"]);
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in ["", "Manager", "a//b", "a b"] {
            assert!(reference(bad).unwrap_err().contains("can't parse"), "{bad}");
        }
        reference("ghcr.io/team/manager:dev").unwrap();
    }
}
