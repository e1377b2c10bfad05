//! `config`: the settings of a Tiltfile, from its command line and from `tilt_config.json` beside it.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value};

use crate::{arguments::Arguments, files};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Text,
    Texts,
    Truth,
}

/// What a Tiltfile has defined.
#[derive(Debug, Default)]
pub(crate) struct Configuration {
    settings: BTreeMap<String, Type>,
    /// The setting that takes what stands on the command line without a name.
    positional: Option<String>,
    parsed: bool,
}

impl Configuration {
    /// `config.define_…`.
    pub(crate) fn define(&mut self, function: &str, arguments: &Arguments) -> Result<(), String> {
        let name = arguments.text("name");
        if self.parsed {
            return Err("cannot be called after config.parse is called".to_owned());
        }
        let kind = match function {
            "config.define_string" => Type::Text,
            "config.define_string_list" => Type::Texts,
            _ => Type::Truth,
        };
        if name.is_empty() {
            return Err("'name' is required".to_owned());
        }
        if self.settings.insert(name.clone(), kind).is_some() {
            return Err(format!("{name} defined multiple times"));
        }
        if arguments.truth("args", false)
            && let Some(other) = self.positional.replace(name.clone())
        {
            return Err(format!("both {other} and {name} are defined as positional args"));
        }
        Ok(())
    }

    /// `config.parse`.
    pub(crate) fn parse(&mut self, given: &[String], folder: &Path) -> Result<Value, String> {
        if std::mem::replace(&mut self.parsed, true) {
            return Err("config.parse can only be called once".to_owned());
        }
        let path = folder.join("tilt_config.json").display().to_string();
        let mut values = match files::read(&path, Some(&Value::Null))? {
            Ok(text) => self.file(&path, &text)?,
            Err(_) => Map::new(),
        };
        let mut from_line = Map::new();
        let mut rest = given.iter();
        while let Some(word) = rest.next() {
            let (name, value) = match word.strip_prefix("--") {
                None => {
                    let name = self.positional.clone();
                    (
                        name.ok_or_else(|| {
                            format!("positional args were specified, but none were expected: {word:?}")
                        })?,
                        Some(word.clone()),
                    )
                }
                Some(flag) => match flag.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (flag.to_owned(), None),
                },
            };
            let kind = self
                .settings
                .get(&name)
                .ok_or_else(|| format!("unknown flag: --{name}"))?;
            let value = match (kind, value) {
                (Type::Truth, None) => "true".to_owned(),
                (_, Some(value)) => value,
                (_, None) => rest
                    .next()
                    .cloned()
                    .ok_or_else(|| format!("flag needs an argument: --{name}"))?,
            };
            put(&mut from_line, &name, *kind, &value)?;
        }
        values.append(&mut from_line);
        Ok(Value::Object(values))
    }

    fn file(&self, path: &str, text: &str) -> Result<Map<String, Value>, String> {
        let values: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("{path}: {error}"))?;
        for (name, value) in &values {
            let kind = self
                .settings
                .get(name)
                .ok_or_else(|| format!("{path} specified unknown setting name {name:?}"))?;
            let fits = match kind {
                Type::Text => value.is_string(),
                Type::Texts => value
                    .as_array()
                    .is_some_and(|list| list.iter().all(Value::is_string)),
                Type::Truth => value.is_boolean(),
            };
            if !fits {
                return Err(format!("{path} specified an invalid value for setting {name}"));
            }
        }
        Ok(values)
    }
}

fn put(values: &mut Map<String, Value>, name: &str, kind: Type, value: &str) -> Result<(), String> {
    match kind {
        Type::Text if values.contains_key(name) => Err(format!("setting {name} was given twice")),
        Type::Text => {
            values.insert(name.to_owned(), value.into());
            Ok(())
        }
        Type::Truth => {
            let truth = value
                .parse::<bool>()
                .map_err(|_| format!("setting {name}: {value:?} is neither true nor false"))?;
            values.insert(name.to_owned(), truth.into());
            Ok(())
        }
        Type::Texts => {
            let list = values.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if let Some(list) = list.as_array_mut() {
                list.push(value.into());
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn defined() -> Configuration {
        let mut configuration = Configuration::default();
        for (function, name, args) in [
            ("config.define_string_list", "operators", true),
            ("config.define_string", "debug", false),
            ("config.define_bool", "fast", false),
        ] {
            let given = json!({"name": name, "args": args});
            let bound = Arguments::bind("name:text args?:bool", &[], given.as_object().unwrap()).unwrap();
            configuration.define(function, &bound).unwrap();
        }
        configuration
    }

    fn parse(words: &[&str], folder: &Path) -> Result<Value, String> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        defined().parse(&words, folder)
    }

    #[test]
    fn the_command_line_beats_the_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(parse(&[], folder.path()).unwrap(), json!({}));
        std::fs::write(
            folder.path().join("tilt_config.json"),
            r#"{"debug": "a", "fast": false}"#,
        )
        .unwrap();
        assert_eq!(
            parse(&["mysql", "--debug=b", "docker", "--fast"], folder.path()).unwrap(),
            json!({"operators": ["mysql", "docker"], "debug": "b", "fast": true})
        );
    }

    #[test]
    fn what_is_not_defined_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            parse(&["--slow"], folder.path())
                .unwrap_err()
                .contains("unknown flag")
        );
        assert!(
            parse(&["--debug"], folder.path())
                .unwrap_err()
                .contains("needs an argument")
        );
        std::fs::write(folder.path().join("tilt_config.json"), r#"{"slow": true}"#).unwrap();
        assert!(parse(&[], folder.path()).unwrap_err().contains("unknown setting"));
    }
}
