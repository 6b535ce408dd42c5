//! Mutating admission: an entry of an object differs from the write, but the response is a success.

use serde_json::{Map, Value};

use super::Resource;

/// A change of one entry of the objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The kind of the objects.
    pub resource: Resource,
    /// The path of the entry.
    pub path: Vec<String>,
    /// The change.
    pub rule: Rule,
}

/// A change of an entry when its object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It is restored if the write removes it.
    Restored,
    /// It is not added if it was absent before.
    NotAdded,
    /// It stays as it was before.
    Kept,
}

impl Admission {
    /// Applies it to a written object. Returns whether that changes the object.
    pub fn alter(&self, resource: Resource, before: &Value, after: &mut Value) -> bool {
        if resource != self.resource {
            return false;
        }
        let (old, new) = (find(before, &self.path).cloned(), find(after, &self.path).cloned());
        let applies = match self.rule {
            Rule::Restored => old.is_some() && new.is_none(),
            Rule::NotAdded => old.is_none() && new.is_some(),
            Rule::Kept => old != new,
        };
        if applies {
            set(after, &self.path, old);
        }
        applies
    }
}

fn find<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, field| value.get(field)).filter(|value| !value.is_null())
}

fn set(object: &mut Value, path: &[String], value: Option<Value>) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut parent = object;
    for field in parents {
        if !parent[field.as_str()].is_object() {
            parent[field.as_str()] = Value::Object(Map::new());
        }
        parent = &mut parent[field.as_str()];
    }
    let Some(fields) = parent.as_object_mut() else { return };
    match value {
        Some(value) => drop(fields.insert(last.clone(), value)),
        None => drop(fields.remove(last)),
    }
}
