//! A label selector with bounds: those of the upstream type have none, and rules over unbounded lists exceed the API
//! server's cost budget.

use std::collections::BTreeMap;

use kube::KubeSchema;
use kube::core::{Expression, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which pods take part. Both parts must match, as everywhere in Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)")
    .message("an empty selector would match every pod of the namespace: give matchLabels or matchExpressions, for example {matchLabels: {app: web}}"))]
pub struct LabelSelector {
    /// Labels that a pod must carry, each with exactly this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32), with = "BTreeMap<String, LabelValue>")]
    #[x_kube(validation = Rule::new("self.all(key, key.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))")
        .message("a key of matchLabels is not a valid label key: use [prefix/]name, where name has at most 63 letters, digits, '-', '_' or '.'"))]
    pub match_labels: Option<BTreeMap<String, String>>,

    /// Further requirements on a pod's labels; all of them must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 32), with = "Vec<Requirement>")]
    pub match_expressions: Option<Vec<Requirement>>,
}

/// A label's value.
#[derive(JsonSchema)]
#[schemars(transparent)]
#[allow(dead_code, reason = "names a schema; no value of it is ever made")]
struct LabelValue(#[schemars(length(max = 63), regex(pattern = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"))] String);

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)")
    .message("operators In and NotIn need at least one entry in values; Exists and DoesNotExist take none"))]
pub struct Requirement {
    /// The label's key.
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
    )]
    pub key: String,
    /// In, NotIn, Exists or DoesNotExist.
    pub operator: Operator,
    /// The values for In and NotIn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 64), with = "Vec<LabelValue>")]
    pub values: Option<Vec<String>>,
}

/// How a requirement relates a label to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The label is one of the values.
    In,
    /// The label is absent or none of the values.
    NotIn,
    /// The label is there, with whatever value.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

impl LabelSelector {
    /// The selector that does the matching.
    ///
    /// # Errors
    /// A sentence for the user where the selector is empty or a requirement lacks its values: an API server with an older
    /// CRD lets such objects through.
    pub fn parse(&self) -> Result<Selector, String> {
        let labels = self.match_labels.iter().flatten().map(|(key, value)| Expression::Equal(key.clone(), value.clone()));
        let expressions = self.match_expressions.iter().flatten().map(Requirement::parse).collect::<Result<Vec<_>, _>>()?;
        let selector: Selector = labels.chain(expressions).collect();
        if selector.selects_all() {
            return Err("spec.selector is empty and would match every pod: give matchLabels or matchExpressions".into());
        }
        Ok(selector)
    }
}

impl Requirement {
    fn parse(&self) -> Result<Expression, String> {
        let key = self.key.clone();
        let values: std::collections::BTreeSet<String> = self.values.iter().flatten().cloned().collect();
        match (self.operator, values.is_empty()) {
            (Operator::In, false) => Ok(Expression::In(key, values)),
            (Operator::NotIn, false) => Ok(Expression::NotIn(key, values)),
            (Operator::Exists, true) => Ok(Expression::Exists(key)),
            (Operator::DoesNotExist, true) => Ok(Expression::DoesNotExist(key)),
            (operator @ (Operator::In | Operator::NotIn), true) => {
                Err(format!("spec.selector.matchExpressions: {operator:?} on {key} needs at least one entry in values"))
            }
            (operator, false) => {
                Err(format!("spec.selector.matchExpressions: {operator:?} on {key} takes no values: remove them"))
            }
        }
    }
}
