//! The record of a term as plain data, and its format in a Lease's annotations. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::names;
use crate::hash::fnv;
use crate::ids::{PodRef, ResourceVersion, Term, Uid};
use crate::lease::cause::Cause;

/// `leaseDurationSeconds` of a term without heartbeats. client-go considers a Lease without a duration expired; this one never
/// expires.
pub const NEVER_EXPIRES: i32 = i32::MAX;

/// A Lease as one reader observed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// `metadata.uid`. A PUT must carry it: without it a PUT recreates a deleted Lease.
    pub uid: Uid,
    /// `metadata.resourceVersion`
    pub resource_version: ResourceVersion,
    /// The name of the Election in the owner references, if there is one.
    pub owner: Option<String>,
    /// The UID of the Election that it was written for. `None`: another client wrote it.
    pub incarnation: Option<Uid>,
    /// `spec.holderIdentity`, written by any client. `None`: no holder.
    pub holder_identity: Option<String>,
    /// `spec.renewTime` is set: its holder renews it. Podium's own terms are not renewed.
    pub renewed: bool,
    /// `spec.leaseDurationSeconds`
    pub duration_seconds: Option<i32>,
    /// The time for which its reader observed this version unchanged, on a monotonic clock. Expiry counts from there.
    pub unchanged_for: SignedDuration,
    /// `podium.dev/allow-adoption-by`: the Election that may adopt it.
    pub allow_adoption_by: Option<String>,
    /// `podium.dev/elector: sidecar`: Podium's own sidecars elect on it.
    pub by_sidecars: bool,
    /// `spec.acquireTime`: the begin of the current term.
    pub acquired: Option<Timestamp>,
    /// `spec.leaseTransitions`
    pub transitions: Option<i32>,
    /// Of a blank Lease: the UIDs of its holders before it was blanked, as far as they could be read.
    pub former: BTreeSet<Uid>,
    /// The content of Podium's annotations.
    pub content: Content,
}

impl Lease {
    /// client-go's default for `leaseDurationSeconds`.
    pub const DEFAULT_DURATION: SignedDuration = SignedDuration::from_secs(15);

    /// Returns the holder by client-go's protocol, and the time until it expires. `None`: no holder, or expired. A holder
    /// without a duration gets client-go's default.
    pub fn campaigner(&self) -> Option<(&str, SignedDuration)> {
        let holder = self.holder_identity.as_deref()?;
        let left = self.duration() - self.unchanged_for;
        left.is_positive().then_some((holder, left))
    }

    /// The time after which an unchanged Lease expires, by client-go's protocol.
    pub fn duration(&self) -> SignedDuration {
        let seconds = self.duration_seconds.filter(|seconds| *seconds > 0);
        seconds.map_or(Self::DEFAULT_DURATION, |seconds| SignedDuration::from_secs(seconds.into()))
    }
}

/// The state of a Lease that Podium wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// No term yet: created, or blanked because it could not be trusted.
    Blank,
    /// A term, with or without a holder.
    Term(Record),
    /// Its parts are inconsistent, for this reason: another client edited it.
    Damaged(&'static str),
}

/// One term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The leader; `None` is a vacancy.
    pub holder: Option<PodRef>,
    /// The fencing token.
    pub term: Term,
    /// Former holders that were not known to be fenced when the term began.
    pub unfenced: BTreeSet<Uid>,
    /// The cause of the term.
    pub cause: Cause,
    /// The cause as a message.
    pub reason: String,
}

/// The parts of a Lease that must be consistent.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `metadata.annotations`
    pub annotations: &'a BTreeMap<String, String>,
    /// `spec.holderIdentity`
    pub holder_identity: Option<&'a str>,
    /// `spec.leaseDurationSeconds`
    pub duration_seconds: Option<i32>,
    /// `metadata.resourceVersion`
    pub resource_version: ResourceVersion,
}

impl Content {
    /// Reads the parts. A content that [`Record::annotations`] does not write is [`Content::Damaged`].
    pub fn read(parts: Parts<'_>) -> Self {
        let Parts { annotations, holder_identity, duration_seconds, resource_version } = parts;
        let text = |key: &str| annotations.get(key).map(String::as_str);
        let identity = holder_identity.unwrap_or_default();
        let Some(term) = text(names::TERM) else {
            let empty = identity.is_empty() && text(names::HOLDER).is_none();
            return if empty { Self::Blank } else { Self::Damaged("it has a holder but no term") };
        };
        let Some(term) = Term::parse(term) else { return Self::Damaged("its term is not a number") };
        if !term.precedes(resource_version) {
            return Self::Damaged("its term is above its own revision");
        }
        if duration_seconds != Some(NEVER_EXPIRES) {
            return Self::Damaged("its duration was changed");
        }
        let holder = match text(names::HOLDER).map(parse_holder) {
            None => None,
            Some(Some(holder)) => Some(holder),
            Some(None) => return Self::Damaged("its holder is not a pod's name and UID"),
        };
        if holder.as_ref().map_or("", |holder| &holder.name) != identity {
            return Self::Damaged("its holderIdentity is not the holder");
        }
        let Some(unfenced) = text(names::UNFENCED).map_or(Some(BTreeSet::new()), parse_unfenced) else {
            return Self::Damaged("its list of former holders is not a list of UIDs");
        };
        // A reader must detect what the writer sees in the response: a part that was dropped, or kept unchanged.
        if text(names::CHECKSUM) != Some(checksum(text).as_str()) {
            return Self::Damaged("its annotations do not match its checksum");
        }
        let cause = text(names::CAUSE).and_then(Cause::parse).unwrap_or(Cause::Unknown);
        let reason = text(names::REASON).unwrap_or_default().to_owned();
        Self::Term(Record { holder, term, unfenced, cause, reason })
    }
}

impl Record {
    /// Returns Podium's annotations for a term of the Election with this UID. `None`: the annotation must be absent.
    pub fn annotations(&self, incarnation: &str) -> [(&'static str, Option<String>); 6] {
        let Self { holder, term, unfenced, cause, reason } = self;
        let holder = holder.as_ref().map(|PodRef { name, uid }| format!("{name}/{uid}"));
        let (term, unfenced) = (term.to_string(), listed(unfenced));
        let checksum = checksum(|name| match name {
            names::INCARNATION => Some(incarnation),
            names::HOLDER => holder.as_deref(),
            names::TERM => Some(&term),
            _ => unfenced.as_deref(),
        });
        [
            (names::HOLDER, holder),
            (names::TERM, Some(term)),
            (names::UNFENCED, unfenced),
            (names::CAUSE, Some(cause.as_str().into())),
            (names::REASON, Some(reason.clone())),
            (names::CHECKSUM, Some(checksum)),
        ]
    }
}

/// Returns the checksum of the annotations that decisions depend on; `text` returns them by name.
fn checksum<'a>(text: impl Fn(&str) -> Option<&'a str>) -> String {
    let parts = [names::INCARNATION, names::HOLDER, names::TERM, names::UNFENCED].map(|name| text(name).unwrap_or_default());
    format!("{:016x}", fnv(parts.join("\n").into_bytes()))
}

/// Returns the UIDs of the holder and the former holders in the annotations, as far as they can be read.
pub fn named(annotations: &BTreeMap<String, String>) -> BTreeSet<Uid> {
    let holder = annotations.get(names::HOLDER).and_then(|text| parse_holder(text)).map(|holder| holder.uid);
    let unfenced = annotations.get(names::UNFENCED).and_then(|text| parse_unfenced(text)).unwrap_or_default();
    unfenced.into_iter().chain(holder).collect()
}

/// Formats these UIDs as an annotation.
pub fn listed(uids: &BTreeSet<Uid>) -> Option<String> {
    let uids: Vec<&str> = uids.iter().map(AsRef::as_ref).collect();
    (!uids.is_empty()).then(|| uids.join(","))
}

fn parse_holder(text: &str) -> Option<PodRef> {
    let (name, uid) = text.split_once('/')?;
    (!name.is_empty() && !uid.is_empty()).then(|| PodRef { name: name.into(), uid: uid.into() })
}

fn parse_unfenced(text: &str) -> Option<BTreeSet<Uid>> {
    let uid = |uid: &str| (!uid.trim().is_empty()).then(|| Uid::from(uid.trim()));
    text.split(',').map(uid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            holder: Some(PodRef { name: "web-0".into(), uid: "u0".into() }),
            term: Term::parse("41").unwrap(),
            unfenced: ["u1".into(), "u2".into()].into(),
            cause: Cause::Terminating,
            reason: "previous leader web-1 is terminating".into(),
        }
    }

    fn written(record: &Record) -> BTreeMap<String, String> {
        record
            .annotations("election-uid")
            .into_iter()
            .chain([(names::INCARNATION, Some("election-uid".into()))])
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect()
    }

    fn read(annotations: &BTreeMap<String, String>, identity: &str) -> Content {
        Content::read(Parts {
            annotations,
            holder_identity: Some(identity),
            duration_seconds: Some(NEVER_EXPIRES),
            resource_version: ResourceVersion::parse("42").unwrap(),
        })
    }

    #[test]
    fn written_record_is_read_back() {
        let vacancy = Record { holder: None, unfenced: BTreeSet::new(), ..record() };
        assert_eq!(read(&written(&record()), "web-0"), Content::Term(record()));
        assert_eq!(read(&written(&vacancy), ""), Content::Term(vacancy));
    }

    #[test]
    fn lease_without_a_term_is_blank_only_without_a_holder() {
        assert_eq!(read(&BTreeMap::new(), ""), Content::Blank);
        assert!(matches!(read(&BTreeMap::new(), "somebody"), Content::Damaged(_)));
        let holder = [(names::HOLDER.to_owned(), "web-0/u0".to_owned())].into();
        assert!(matches!(read(&holder, ""), Content::Damaged(_)));
    }

    #[test]
    fn each_inconsistent_part_makes_a_lease_damaged() {
        let edits: [(&str, Option<&str>); 13] = [
            (names::HOLDER, Some("web-0")),
            (names::HOLDER, Some("web-1/u1")),
            (names::HOLDER, None),
            (names::TERM, Some("forty")),
            (names::TERM, Some("-3")),
            (names::TERM, Some("42")),
            (names::TERM, None),
            (names::UNFENCED, Some("u1,,u2")),
            (names::UNFENCED, Some("u1")),
            (names::UNFENCED, None),
            (names::TERM, Some("40")),
            (names::INCARNATION, None),
            (names::CHECKSUM, None),
        ];
        for (key, value) in edits {
            let mut annotations = written(&record());
            match value {
                Some(value) => annotations.insert(key.into(), value.into()),
                None => annotations.remove(key),
            };
            assert!(matches!(read(&annotations, "web-0"), Content::Damaged(_)), "{key} = {value:?}");
        }
        assert!(matches!(read(&written(&record()), "web-1"), Content::Damaged(_)), "another identity");
    }
}
