//! `docs/reference/election.md` is what the CustomResourceDefinition says, and the pages beside it list every reason and annotation.

use std::fmt::Write;
use std::{env, fs};

use podium::api::{Reason, names};
use serde_json::Value;

const DEFINITION: &str = include_str!("../crds/elections.podium.dev.yaml");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/election.md");

/// Patterns of names in Kubernetes, which read better as words.
const PATTERNS: [(&str, &str); 4] = [
    ("^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", "a label value"),
    ("^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", "a label value, not empty"),
    (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", "a DNS subdomain"),
    (
        r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        "a label key",
    ),
];

#[test]
fn election_reference_is_current() {
    let page = page(&serde_yaml::from_str(DEFINITION).expect("a CustomResourceDefinition"));
    if env::var_os("GENERATE").is_some() {
        fs::write(PAGE, &page).expect("a writable page");
    }
    let committed = fs::read_to_string(PAGE).unwrap_or_default();
    assert!(committed == page, "docs/reference/election.md is not what the CRD says: run `make generate`");
}

#[test]
fn every_reason_and_annotation_is_documented() {
    let conditions = include_str!("../docs/reference/conditions-and-events.md");
    for reason in Reason::NAMES {
        assert!(conditions.contains(&format!("| `{reason}` |")), "{reason}");
    }
    let annotations = include_str!("../docs/reference/labels-and-annotations.md");
    let on_leases =
        [names::HOLDER, names::TERM, names::UNFENCED, names::INCARNATION, names::CHECKSUM, names::CAUSE, names::REASON];
    let by_users = [names::CANDIDATE, names::PRIORITY, names::ALLOW_ADOPTION_BY];
    for name in
        [&on_leases[..], &by_users, &[names::ELECTOR, names::CLAIM_PREFIX, names::POD_DELETION_COST, names::DELETION_COSTS]]
            .concat()
    {
        assert!(annotations.contains(&format!("`{name}")), "{name}");
    }
}

#[test]
fn fields_are_listed_with_type_default_and_constraints() {
    let schema = serde_json::json!({ "type": "object", "required": ["name"], "properties": {
        "name": { "type": "string", "description": "A <name>.", "minLength": 1, "maxLength": 63 },
        "size": { "type": "integer", "default": 3, "minimum": 0.0, "maximum": 9.0, "description": "Size." },
        "tags": { "type": "array", "maxItems": 2, "items": { "type": "object", "properties": {
            "key": { "type": "string", "enum": ["a", "b"], "pattern": "x|y" },
        } } },
        "labels": { "type": "object", "additionalProperties": { "type": "string" } },
    } });
    let expected = [
        r"| `labels` | map of string |  |  |  |",
        r"| `name` | string |  | required; length 1 to 63 | A \<name>. |",
        r"| `size` | integer | `3` | 0 to 9 | Size. |",
        r"| `tags` | array of object |  | at most 2 entries |  |",
        r"| `tags[].key` | string |  | `a` or `b`; must match `x\|y` |  |",
    ];
    let mut rows = Vec::new();
    collect(&schema, "", &mut rows);
    assert_eq!(rows, expected);
}

fn page(definition: &Value) -> String {
    let version = &definition["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let (group, name) = (text(&definition["spec"]["group"]), text(&version["name"]));
    let mut page = format!(
        "# Election\n\n<!-- Generated from crds/elections.podium.dev.yaml by `make generate`. -->\n\n\
         ```yaml\napiVersion: {group}/{name}\nkind: Election\n```\n\n{}\n\n\
         The name of an Election has at most {} characters. `kubectl explain election --recursive` prints\nthe same fields.\n",
        wrapped(&text(&schema["description"])),
        schema["properties"]["metadata"]["properties"]["name"]["maxLength"],
    );
    for part in ["spec", "status"] {
        let schema = &schema["properties"][part];
        let _ = write!(page, "\n## {part}\n\n{}\n\n", wrapped(&text(&schema["description"])));
        page += "| field | type | default | constraints | description |\n|---|---|---|---|---|\n";
        let mut rows = Vec::new();
        collect(schema, "", &mut rows);
        page += &(rows.join("\n") + "\n");
    }
    page += "\n## Validation messages\n\nThe API server rejects an Election that breaks one of these rules.\n\n| field | message |\n|---|---|\n";
    let mut rules = Vec::new();
    collect_rules(schema, "", &mut rules);
    page + &rules.join("\n")
        + "\n"
        + "\n## Columns\n\n`kubectl get elections` prints these columns. Columns marked wide need `--output wide`.\n\n\
           | column | wide | source |\n|---|---|---|\n"
        + &version["additionalPrinterColumns"].as_array().into_iter().flatten().map(column).collect::<String>()
}

fn column(column: &Value) -> String {
    let wide = if column["priority"].as_i64().unwrap_or(0) > 0 { "yes" } else { "" };
    format!("| {} | {wide} | `{}` |\n", text(&column["name"]).to_uppercase(), text(&column["jsonPath"]))
}

/// One row for each field, parents before their children.
fn collect(schema: &Value, path: &str, rows: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let required = schema["required"].as_array().is_some_and(|names| names.contains(&Value::from(name.as_str())));
        rows.push(format!(
            "| `{path}` | {} | {} | {} | {} |",
            kind(field),
            default(field),
            constraints(field, required),
            escaped(&text(&field["description"]))
        ));
        // Conditions are Kubernetes' own type, documented there.
        if name != "conditions" {
            collect(field, &path, rows);
            collect(&field["items"], &format!("{path}[]"), rows);
        }
    }
}

fn collect_rules(schema: &Value, path: &str, rows: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let field = rule["fieldPath"].as_str().map_or_else(|| path.to_owned(), |field| field.trim_start_matches('.').into());
        rows.push(format!("| `{field}` | {} |", escaped(&text(&rule["message"]))));
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect_rules(field, &path, rows);
        collect_rules(&field["items"], &format!("{path}[]"), rows);
    }
}

fn kind(field: &Value) -> String {
    let own = text(&field["type"]);
    match (own.as_str(), field["format"].as_str()) {
        ("array", _) => format!("array of {}", kind(&field["items"])),
        ("object", _) if field["additionalProperties"].is_object() => {
            format!("map of {}", kind(&field["additionalProperties"]))
        }
        (_, Some(format)) => format!("{own} ({format})"),
        _ => own,
    }
}

fn default(field: &Value) -> String {
    match &field["default"] {
        Value::Null => String::new(),
        Value::String(text) => format!("`\"{text}\"`"),
        // The defaults of its fields say it.
        Value::Object(_) => String::new(),
        value => format!("`{value}`"),
    }
}

fn constraints(field: &Value, required: bool) -> String {
    let mut all: Vec<String> = Vec::new();
    let whole = |value: &Value| value.as_f64().map(|number| format!("{number:.0}"));
    all.extend(required.then(|| "required".into()));
    all.extend(
        field["enum"]
            .as_array()
            .map(|values| values.iter().map(|value| format!("`{}`", text(value))).collect::<Vec<_>>().join(" or ")),
    );
    all.extend(whole(&field["minimum"]).zip(whole(&field["maximum"])).map(|(low, high)| format!("{low} to {high}")));
    match (whole(&field["minLength"]), whole(&field["maxLength"])) {
        (Some(low), Some(high)) => all.push(format!("length {low} to {high}")),
        (None, Some(high)) => all.push(format!("length at most {high}")),
        _ => {}
    }
    all.extend(
        whole(&field["maxItems"]).or_else(|| whole(&field["maxProperties"])).map(|most| format!("at most {most} entries")),
    );
    all.extend(field["pattern"].as_str().map(|pattern| {
        let known = PATTERNS.iter().find(|(known, _)| *known == pattern);
        known.map_or_else(|| format!("must match `{}`", pattern.replace('|', "\\|")), |(_, words)| (*words).to_owned())
    }));
    all.join("; ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Text in a table, where a bar would end the cell and an angle bracket would begin HTML.
fn escaped(text: &str) -> String {
    let code = |(index, part): (usize, &str)| if index % 2 == 1 { format!("`{part}`") } else { part.replace('<', "\\<") };
    text.split('`').enumerate().map(code).collect::<String>().replace('|', "\\|").replace('\n', " ")
}

fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("a line");
        match line.is_empty() {
            true => *line = word.to_owned(),
            false if line.chars().count() + word.chars().count() < 100 => *line = format!("{line} {word}"),
            false => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
