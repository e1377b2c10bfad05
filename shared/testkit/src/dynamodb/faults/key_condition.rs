//! Key conditions of a Query, evaluated: `#p = :p AND #s BETWEEN :a AND :b` and its kin.

use std::cmp::Ordering;

use serde_json::Value;

use super::number::{begins_with, compare};

/// Whether an item meets a Query's key condition; `None` if the condition is not understood.
pub(super) fn matches(query: &Value, item: &Value) -> Option<bool> {
    let tokens = tokens(query["KeyConditionExpression"].as_str()?);
    let mut rest = tokens.iter().map(String::as_str).peekable();
    let attribute = |token: &str| Some(&item[name(query, token)?]);
    let value = |token: &str| Some(&query["ExpressionAttributeValues"][token]);
    let mut all = true;
    while let Some(first) = rest.next() {
        if first.eq_ignore_ascii_case("and") {
            continue;
        }
        all &= if first.eq_ignore_ascii_case("begins_with") {
            begins_with(attribute(rest.next()?)?, value(rest.next()?)?)?
        } else {
            let operator = rest.next()?;
            let (attribute, bound) = (attribute(first)?, value(rest.next()?)?);
            let order = compare(attribute, bound)?;
            match operator {
                "=" => order == Ordering::Equal,
                "<" => order == Ordering::Less,
                "<=" => order != Ordering::Greater,
                ">" => order == Ordering::Greater,
                ">=" => order != Ordering::Less,
                _ if operator.eq_ignore_ascii_case("between") => {
                    rest.next_if(|token| token.eq_ignore_ascii_case("and"))?;
                    let below = compare(attribute, value(rest.next()?)?)? != Ordering::Greater;
                    below && order != Ordering::Less
                }
                _ => return None,
            }
        };
    }
    Some(all)
}

/// The attribute that a token of an expression names.
pub(super) fn name<'a>(query: &'a Value, token: &'a str) -> Option<&'a str> {
    if token.starts_with('#') {
        query["ExpressionAttributeNames"][token].as_str()
    } else {
        Some(token)
    }
}

/// Words and comparisons. Parentheses and commas carry no meaning here that position does not.
fn tokens(expression: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut joining = None;
    for character in expression.chars() {
        let class = match character {
            '=' | '<' | '>' => Some('='),
            _ if character.is_whitespace() || "(),".contains(character) => None,
            _ => Some('w'),
        };
        match (class, tokens.last_mut()) {
            (Some(_), Some(last)) if class == joining => last.push(character),
            (Some(_), _) => tokens.push(character.into()),
            (None, _) => {}
        }
        joining = class;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_a_key_condition_is_understood() {
        let item = json!({ "pk": { "S": "a" }, "sk": { "S": "m5" } });
        for (expression, met) in [
            ("pk = :a", true),
            ("#p=:a AND #s<:m6", true),
            ("#p = :a and (#s > :m6)", false),
            ("(#p = :a) AND (#s >= :m5)", true),
            ("#p = :a AND #s BETWEEN :m1 AND :m6", true),
            ("#p = :a AND #s between :m6 and :m9", false),
            ("#p = :a AND begins_with(#s, :m)", true),
            ("begins_with ( #s,:x ) AND #p = :a", false),
            ("#p = :x", false),
        ] {
            let query = json!({
                "KeyConditionExpression": expression,
                "ExpressionAttributeNames": { "#p": "pk", "#s": "sk" },
                "ExpressionAttributeValues": {
                    ":a": { "S": "a" }, ":x": { "S": "x" }, ":m": { "S": "m" }, ":m1": { "S": "m1" },
                    ":m5": { "S": "m5" }, ":m6": { "S": "m6" }, ":m9": { "S": "m9" },
                },
            });
            assert_eq!(matches(&query, &item), Some(met), "{expression}");
        }
        assert_eq!(
            matches(&json!({ "KeyConditionExpression": "pk ~ :a" }), &item),
            None
        );
    }
}
