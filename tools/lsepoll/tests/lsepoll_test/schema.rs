// SPDX-License-Identifier: GPL-2.0

//! Checks JSON against the schema.
//!
//! Knows only the keywords that the schema uses. Any other is an error: it would go unchecked.

use crate::tap::Outcome;
use serde_json::Value;
use std::error::Error;

const SCHEMA: &str = include_str!("lsepoll.schema.json");

/// Checks each line, and returns their values: epoll instances, and the summary.
pub fn check(lines: &str) -> Result<(Vec<Value>, Value), Box<dyn Error>> {
    let schema: Value = serde_json::from_str(SCHEMA)?;
    let mut values = Vec::new();
    for line in lines.lines() {
        let value = serde_json::from_str(line)?;
        fits(&value, &schema, &schema).map_err(|e| format!("{e} in {line}"))?;
        values.push(value);
    }
    let summary = values
        .pop()
        .and_then(|mut last| Some(last.get_mut("summary")?.take()));
    Ok((values, summary.ok_or("no summary at the end")?))
}

fn fits(value: &Value, schema: &Value, root: &Value) -> Outcome {
    for (keyword, rule) in schema.as_object().ok_or("a schema is not an object")? {
        let is_fit = match keyword.as_str() {
            "$schema" | "title" | "$defs" => true,
            "$ref" => {
                let path = rule.as_str().and_then(|path| path.strip_prefix('#'));
                let schema = path.and_then(|path| root.pointer(path));
                fits(value, schema.ok_or("a $ref without its schema")?, root)?;
                true
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|name| has_type(value, name)),
                name => has_type(value, name),
            },
            "enum" => rule.as_array().is_some_and(|values| values.contains(value)),
            "minimum" => value.as_u64() >= rule.as_u64(),
            "minItems" => value.as_array().map(|items| items.len() as u64) >= rule.as_u64(),
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    fits(item, rule, root)?;
                }
                true
            }
            "oneOf" => {
                let schemas = rule.as_array().into_iter().flatten();
                schemas
                    .filter(|schema| fits(value, schema, root).is_ok())
                    .count()
                    == 1
            }
            // An object with other types, such as null, has no members to check.
            "required" if !value.is_object() => true,
            "additionalProperties" if !value.is_object() => true,
            "required" => {
                let mut names = rule
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str);
                names.all(|name| value.get(name).is_some())
            }
            "properties" => {
                for (name, schema) in rule.as_object().into_iter().flatten() {
                    value
                        .get(name)
                        .map_or(Ok(()), |value| fits(value, schema, root))?;
                }
                true
            }
            "additionalProperties" => {
                let properties = &schema["properties"];
                let mut members = value.as_object().into_iter().flatten();
                *rule == false && members.all(|(name, _)| properties.get(name).is_some())
            }
            _ => return Err(format!("unknown keyword {keyword}").into()),
        };
        if !is_fit {
            return Err(format!("{value} does not fit {keyword} {rule}").into());
        }
    }
    Ok(())
}

fn has_type(value: &Value, name: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => false,
    }
}
