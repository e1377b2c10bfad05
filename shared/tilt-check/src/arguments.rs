//! The arguments of a call, by the names and types of the function's signature.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The key that tells a value of one of Tilt's own types; its type stands there.
pub(crate) const TAG: &str = "$";

/// What a call was given; what was left out or is `None` is not there.
#[derive(Debug, Default)]
pub(crate) struct Arguments(BTreeMap<String, Value>);

impl Arguments {
    /// Binds what was given to `signature`, as strictly as Tilt does.
    pub(crate) fn bind(signature: &str, args: &[Value], kwargs: &Map<String, Value>) -> Result<Self, String> {
        let parameters: Vec<Parameter<'_>> = signature.split_whitespace().map(Parameter::parse).collect();
        let mut bound = Self::default();
        let rest = parameters.last().filter(|last| last.repeated);
        let single = parameters.len() - usize::from(rest.is_some());
        for (index, value) in args.iter().enumerate() {
            match (parameters.get(index).filter(|_| index < single), rest) {
                (Some(parameter), _) => bound.put(parameter, value)?,
                (None, Some(rest)) => {
                    rest.check(value)?;
                    let list = bound
                        .0
                        .entry(rest.name.to_owned())
                        .or_insert_with(|| Value::Array(Vec::new()));
                    if let Some(list) = list.as_array_mut() {
                        list.push(value.clone());
                    }
                }
                (None, None) => return Err(format!("got {} arguments, want at most {single}", args.len())),
            }
        }
        for (name, value) in kwargs {
            let parameter = parameters
                .iter()
                .find(|parameter| parameter.name == name)
                .ok_or_else(|| format!("unexpected keyword argument \"{name}\""))?;
            if bound.0.contains_key(name) {
                return Err(format!("got multiple values for parameter \"{name}\""));
            }
            bound.put(parameter, value)?;
        }
        match parameters
            .iter()
            .find(|parameter| parameter.required && !bound.0.contains_key(parameter.name))
        {
            Some(missing) => Err(format!("missing argument for {}", missing.name)),
            None => Ok(bound),
        }
    }

    fn put(&mut self, parameter: &Parameter<'_>, value: &Value) -> Result<(), String> {
        if value.is_null() && !parameter.required {
            return Ok(());
        }
        parameter.check(value)?;
        self.0.insert(parameter.name.to_owned(), value.clone());
        Ok(())
    }

    /// The value as it was given.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Text, or the text of a blob; empty if left out.
    pub(crate) fn text(&self, name: &str) -> String {
        self.value(name).and_then(text).unwrap_or_default().to_owned()
    }

    /// One text or a list of them.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::Array(list)) => list.iter().filter_map(text).map(str::to_owned).collect(),
            Some(value) => text(value).map(str::to_owned).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// A list of any values.
    pub(crate) fn list(&self, name: &str) -> Vec<Value> {
        match self.value(name) {
            Some(Value::Array(list)) => list.clone(),
            Some(value) => vec![value.clone()],
            None => Vec::new(),
        }
    }

    /// Text by text.
    pub(crate) fn map(&self, name: &str) -> BTreeMap<String, String> {
        let entries = self.value(name).and_then(Value::as_object).into_iter().flatten();
        entries
            .filter_map(|(key, value)| Some((key.clone(), text(value)?.to_owned())))
            .collect()
    }

    /// A number.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.value(name).and_then(Value::as_i64)
    }

    /// True or false.
    pub(crate) fn truth(&self, name: &str, default: bool) -> bool {
        self.value(name).and_then(Value::as_bool).unwrap_or(default)
    }
}

/// The type of one of Tilt's own values.
pub(crate) fn own_type(value: &Value) -> Option<&str> {
    value.get(TAG).and_then(Value::as_str)
}

/// Text, plain or as a blob.
pub(crate) fn text(value: &Value) -> Option<&str> {
    match own_type(value) {
        Some("blob") => value["value"].as_str(),
        _ => value.as_str(),
    }
}

struct Parameter<'signature> {
    name: &'signature str,
    required: bool,
    repeated: bool,
    kind: &'signature str,
}

impl<'signature> Parameter<'signature> {
    fn parse(text: &'signature str) -> Self {
        let (name, kind) = text.split_once(':').unwrap_or((text, "any"));
        Self {
            name: name.trim_end_matches(['?', '*']),
            required: !name.ends_with(['?', '*']),
            repeated: name.ends_with('*'),
            kind,
        }
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        let all_texts = |value: &Value| {
            value
                .as_array()
                .is_some_and(|list| list.iter().all(Value::is_string))
        };
        let fits = match self.kind {
            "text" => value.is_string(),
            "content" => text(value).is_some(),
            "texts" | "command" => value.is_string() || all_texts(value),
            "int" => value.is_i64(),
            "bool" => value.is_boolean(),
            "list" => value.is_array(),
            "map" => {
                own_type(value).is_none()
                    && value
                        .as_object()
                        .is_some_and(|map| map.values().all(Value::is_string))
            }
            "mode" => own_type(value) == Some("TriggerMode"),
            _ => true,
        };
        if fits {
            return Ok(());
        }
        let wanted = match self.kind {
            "text" => "a string",
            "content" => "a string or a blob",
            "texts" => "a string or a list of strings",
            "command" => "a command: a string or a list of strings",
            "int" => "an int",
            "bool" => "a bool",
            "list" => "a list",
            "map" => "a dict of strings",
            "mode" => "TRIGGER_MODE_AUTO or TRIGGER_MODE_MANUAL",
            other => other,
        };
        Err(format!("for parameter {}: got {value}, want {wanted}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bind(signature: &str, args: &[Value], kwargs: &Value) -> Result<Arguments, String> {
        Arguments::bind(signature, args, kwargs.as_object().unwrap())
    }

    #[test]
    fn arguments_are_found_by_place_and_by_name() {
        let bound = bind(
            "a:text b?:int c?:texts",
            &[json!("x")],
            &json!({"c": ["y"], "b": null}),
        )
        .unwrap();
        assert_eq!(bound.text("a"), "x");
        assert_eq!(bound.int("b"), None);
        assert_eq!(bound.texts("c"), ["y"]);
    }

    #[test]
    fn what_a_signature_does_not_say_is_refused() {
        for (args, kwargs, why) in [
            (vec![], json!({}), "missing argument for a"),
            (vec![json!(1)], json!({}), "for parameter a: got 1, want a string"),
            (vec![json!("x")], json!({"a": "y"}), "multiple values"),
            (
                vec![json!("x")],
                json!({"d": 1}),
                "unexpected keyword argument \"d\"",
            ),
            (vec![json!("x"), json!(1), json!(2)], json!({}), "want at most 2"),
        ] {
            let refused = bind("a:text b?:int", &args, &kwargs).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn a_rest_takes_any_number() {
        let bound = bind(
            "a:text more*:text",
            &[json!("x"), json!("y"), json!("z")],
            &json!({}),
        )
        .unwrap();
        assert_eq!(bound.texts("more"), ["y", "z"]);
        assert_eq!(
            bind("a:text more*:text", &[json!("x")], &json!({}))
                .unwrap()
                .texts("more"),
            [""; 0]
        );
    }
}
