//! The reference of `docs/reference/`, printed from the comments of the options and from the table of codes.
use crate::config::options::{Gateway, MapFile, RateLimitsFile, RolesFile, TenantsFile, TestsFile};
use decide::refusal::TABLE;
use schemars::{JsonSchema, schema_for};
use serde_json::{Map, Value};
use std::fmt::Write;

/// The JSON schema of `gateway.yaml`.
pub fn schema() -> Value {
    let mut schema = schema_for!(Gateway).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), Value::from("gateway.yaml of Moat"));
    }
    schema
}

/// `docs/reference/gateway.md`: every key of every file.
pub fn gateway() -> String {
    let mut out = String::from(
        "# Configuration reference\n\nGenerated from the options' comments by `moat config reference`; do not edit.\n\n\
         Unknown keys, duplicate keys and unused names are problems. Durations: `250ms` `10s` `15m` `12h` `30d` `1y`. Sizes: \
         `512B` `64KiB` `1MiB`. Rates: `20/s` `600/m` `5000/h`. `${NAME}`, `${NAME:-default}` and `${NAME:?hint}` are \
         replaced in unquoted values, after parsing. Paths are relative to the folder of `gateway.yaml`. A star stands for \
         names of your own choice.\n",
    );
    file::<Gateway>(&mut out, "gateway.yaml");
    file::<RolesFile>(&mut out, "policies.roles");
    file::<RateLimitsFile>(&mut out, "policies.rate_limits");
    headers(&mut out);
    file::<TenantsFile>(&mut out, "tenancy.file");
    file::<MapFile>(&mut out, "custom_domain.map and tenant.map");
    file::<TestsFile>(&mut out, "policies.tests");
    out
}

/// `docs/reference/codes.md`: every refusal.
pub fn codes() -> String {
    let mut out = String::from(
        "# Refusal codes\n\nGenerated from the table of codes by `moat config reference`; do not edit.\n\nA code is the same \
         word in the response (`code` of RFC 9457 problem+json), the audit entry and the metric. Codes are never renamed.\n\n\
         | code | status | title | what it means |\n| --- | --- | --- | --- |\n",
    );
    for row in TABLE {
        let _ = writeln!(out, "| `{}` | {} | {} | {} |", row.id, row.status, row.title, row.help);
    }
    out
}

fn file<T: JsonSchema>(out: &mut String, name: &str) {
    let schema = schema_for!(T).to_value();
    let empty = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
    let _ = write!(out, "\n## `{name}`\n\n{}\n\n", description(&schema));
    let mut rows = Rows { out, definitions };
    rows.object("", &schema, 0);
}

/// The key that any of several choices may have beside it, which describes itself.
fn beside(choice: &Value) -> Option<(&String, &Value)> {
    let chosen = choice.get("required")?.as_array()?;
    let optional = |(key, value): &(&String, &Value)| {
        !chosen.iter().any(|chosen| chosen == key.as_str()) && value.get("description").is_some()
    };
    choice.get("properties")?.as_object()?.iter().find(optional)
}

struct Rows<'a> {
    out: &'a mut String,
    definitions: &'a Map<String, Value>,
}

impl Rows<'_> {
    /// One line per key, nested ones below by their full path.
    fn object(&mut self, path: &str, schema: &Value, depth: usize) {
        if depth > 8 {
            return;
        }
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        for (key, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            self.row(&path, value, required.contains(&key.as_str()));
            self.below(&path, value, depth);
        }
    }

    fn below(&mut self, path: &str, schema: &Value, depth: usize) {
        let target = self.resolve(schema);
        if let Some(each) = target.get("additionalProperties").filter(|v| v.is_object()) {
            self.below(&format!("{path}.*"), each, depth + 1);
        }
        if let Some(item) = target.get("items") {
            self.below(&format!("{path}[]"), item, depth + 1);
        }
        for choice in ["anyOf", "oneOf"].iter().filter_map(|k| target.get(*k)).filter_map(Value::as_array).flatten() {
            let named = choice.get("properties").and_then(Value::as_object).is_some();
            if named || choice.get("$ref").is_some() {
                self.choice(path, choice, depth);
            }
        }
        if let Some((key, value)) = target.get("oneOf").and_then(|all| beside(all.get(0)?)) {
            self.row(&format!("{path}.{key}"), value, false);
        }
        self.object(path, &target, depth + 1);
    }

    fn choice(&mut self, path: &str, choice: &Value, depth: usize) {
        match choice.get("properties").and_then(Value::as_object) {
            Some(properties) => {
                for (key, value) in properties {
                    if beside(choice).is_some_and(|(other, _)| other == key) {
                        continue;
                    }
                    let path = format!("{path}.{key}");
                    let text = description(choice);
                    let _ = writeln!(self.out, "- `{path}`: {text}");
                    self.below(&path, value, depth + 1);
                }
            }
            None => self.below(path, choice, depth + 1),
        }
    }

    fn row(&mut self, path: &str, schema: &Value, required: bool) {
        let mut text = description(schema);
        let target = self.resolve(schema);
        if text.is_empty() {
            text = description(&target);
        }
        let words: Vec<String> = ["oneOf", "enum"]
            .iter()
            .filter_map(|k| target.get(*k))
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(|v| v.get("const").or(Some(v)).and_then(Value::as_str).map(|w| format!("`{w}`")))
            .collect();
        if !words.is_empty() && !words.iter().all(|word| text.contains(word.as_str())) {
            let _ = write!(text, " One of {}.", words.join(", "));
        }
        match schema.get("default") {
            Some(default) if !matches!(default, Value::Object(_)) && !text.contains("Default:") => {
                let _ = write!(text, " Default: `{}`.", plain(default));
            }
            _ if required => text.push_str(" Required."),
            _ => {}
        }
        let _ = writeln!(self.out, "- `{path}`: {text}");
    }

    fn resolve(&self, schema: &Value) -> Value {
        let reference = |v: &Value| {
            v.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/")).map(str::to_owned)
        };
        let of_any = || schema.get("anyOf").and_then(Value::as_array).and_then(|any| any.iter().find_map(reference));
        match reference(schema).or_else(of_any).and_then(|name| self.definitions.get(&name)) {
            Some(definition) => definition.clone(),
            None => schema.clone(),
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

fn description(schema: &Value) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ")
}

/// Header profiles are described in the core, which knows no schemas: their comments are read from the source itself.
fn headers(out: &mut String) {
    out.push_str("\n## `policies.headers`\n\n");
    let mut comment: Vec<&str> = Vec::new();
    for line in include_str!("../../decide/src/headers/options.rs").lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            comment.push(text);
            continue;
        }
        let text = comment.join(" ");
        if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.split([' ', '(']).next()) {
            let _ = writeln!(out, "\n### {}\n\n{text}\n", words(name));
        } else if let Some((field, _)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": ")) {
            if !text.is_empty() {
                let _ = writeln!(out, "- `{field}`: {text}");
            }
        } else if line.starts_with("#[") {
            continue;
        }
        comment.clear();
    }
}

/// `CookieOptions` → `cookie options`
fn words(name: &str) -> String {
    let spaced = name.chars().map(|c| if c.is_uppercase() { format!(" {}", c.to_lowercase()) } else { c.to_string() });
    spaced.collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_printed_reference_is_up_to_date() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
        for (name, text) in [("gateway.md", gateway()), ("codes.md", codes())] {
            let there = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert!(there == text, "docs/reference/{name} is out of date: run `moat config reference docs/reference`");
        }
    }

    #[test]
    fn every_key_has_a_description() {
        let text = gateway();
        let bare: Vec<&str> = text.lines().filter(|line| line.starts_with("- `") && line.ends_with("`: ")).collect();
        assert!(bare.is_empty(), "{bare:?}");
    }

    #[test]
    fn the_schema_accepts_the_example() {
        let dir = crate::config::tests::example();
        let text = std::fs::read_to_string(dir.path().join("gateway.yaml")).unwrap();
        let report = crate::config::problem::Report::default();
        let tree = crate::config::yaml::parse(0, &text, &|_| None, &report, &mut 0).unwrap();
        let schema = schema();
        let wrong = crate::config::tests::against(&tree, &schema, &schema, "gateway");
        assert!(wrong.is_empty(), "{wrong:?}");
        let tree =
            crate::config::yaml::parse(0, "version: 1\nroutes: {a: {mach: 1}}", &|_| None, &report, &mut 0).unwrap();
        assert_eq!(crate::config::tests::against(&tree, &schema, &schema, "gateway"), ["gateway.routes.a.mach"]);
    }
}
