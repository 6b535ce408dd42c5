//! A label selector with bounds. The upstream type has none, and validation rules over unbounded lists exceed the API server's
//! cost budget.

use std::collections::BTreeMap;

use kube::KubeSchema;
use kube::core::{Expression, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A DNS subdomain: a Lease's name, or the prefix of a label key.
pub(super) const DNS_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A label key or a pod condition's type: a name, with or without a DNS subdomain as prefix.
pub(super) const LABEL_KEY: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";

/// Label selector of the candidates. A pod must match both `matchLabels` and `matchExpressions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)")
    .message("must not be empty, because it would match every pod: set matchLabels or matchExpressions, for example {matchLabels: {app: web}}"))]
pub struct LabelSelector {
    /// Labels that a pod must carry with exactly these values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32), with = "BTreeMap<String, LabelValue>")]
    #[x_kube(validation = Rule::new(format!("self.all(key, key.matches('{}'))", LABEL_KEY.replace('\\', "\\\\")))
        .message("each key of matchLabels must be a label key: [prefix/]name, where name has at most 63 letters, digits, '-', '_' or '.'"))]
    pub match_labels: Option<BTreeMap<String, String>>,

    /// Requirements on a pod's labels. All of them must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 32), with = "Vec<Requirement>")]
    pub match_expressions: Option<Vec<Requirement>>,
}

/// A label value.
#[derive(JsonSchema)]
#[schemars(transparent)]
#[allow(dead_code, reason = "names a schema; no value of it exists")]
struct LabelValue(#[schemars(length(max = 63), regex(pattern = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"))] String);

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)")
    .message("values must have at least one entry for operators In and NotIn, and must be empty for Exists and DoesNotExist"))]
pub struct Requirement {
    /// Key of the label.
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = LABEL_KEY)
    )]
    pub key: String,
    /// Relation between the label and `values`: In, NotIn, Exists or DoesNotExist.
    pub operator: Operator,
    /// Values for In and NotIn. Must be empty for Exists and DoesNotExist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 64), with = "Vec<LabelValue>")]
    pub values: Option<Vec<String>>,
}

/// Relation between a label and the values of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The label is one of the values.
    In,
    /// The label is absent or none of the values.
    NotIn,
    /// The label exists, with any value.
    Exists,
    /// The label does not exist.
    DoesNotExist,
}

impl LabelSelector {
    /// Converts to the selector that matches pods.
    ///
    /// # Errors
    /// A message for the user, to follow the name of the field, if the selector is empty or the values of a requirement do not fit
    /// its operator. An API server with an older CRD accepts such objects.
    pub fn parse(&self) -> Result<Selector, String> {
        let labels = self.match_labels.iter().flatten().map(|(key, value)| Expression::Equal(key.clone(), value.clone()));
        let expressions = self.match_expressions.iter().flatten().map(Requirement::parse).collect::<Result<Vec<_>, _>>()?;
        let selector: Selector = labels.chain(expressions).collect();
        if selector.selects_all() {
            return Err(" must not be empty, because it would match every pod: set matchLabels or matchExpressions".into());
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
                Err(format!(".matchExpressions: values of {key} must have at least one entry for operator {operator:?}"))
            }
            (operator, false) => {
                Err(format!(".matchExpressions: values of {key} must be empty for operator {operator:?}: remove them"))
            }
        }
    }
}
