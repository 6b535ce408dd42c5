//! Conversion between the Kubernetes Lease and the record: reads, and the bodies of writes.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use kube::core::DeserializeGuard;
use podium_campaign::is_election;

use super::record::{self, Content, Lease, NEVER_EXPIRES, Parts, Record};
use crate::api::names;
use crate::ids::{NotAnInteger, ResourceVersion};

/// The Election that a Lease is written for.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// `metadata.name`
    pub name: &'a str,
    /// `metadata.uid`
    pub uid: &'a str,
}

/// The holder of an unreadable Lease: its content is unknown, so it counts as held.
const UNREADABLE: &str = "unknown, the Lease is unreadable";

/// Returns the object, or a Lease with a foreign holder if it is unreadable, for example because of a time out of range.
pub fn readable(guard: DeserializeGuard<Object>) -> Object {
    guard.0.unwrap_or_else(|invalid| Object {
        metadata: invalid.metadata,
        spec: Some(LeaseSpec { holder_identity: Some(UNREADABLE.into()), ..LeaseSpec::default() }),
    })
}

/// Reads the object.
///
/// # Errors
/// [`NotAnInteger`] if its resourceVersion is not an integer.
pub fn read(object: &Object) -> Result<Lease, NotAnInteger> {
    let metadata = &object.metadata;
    let spec = object.spec.clone().unwrap_or_default();
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let resource_version = ResourceVersion::parse(metadata.resource_version.as_deref().unwrap_or_default())?;
    let owner = metadata.owner_references.iter().flatten().find(|owner| is_election(owner));
    let parts = Parts {
        annotations: &annotations,
        holder_identity: spec.holder_identity.as_deref(),
        duration_seconds: spec.lease_duration_seconds,
        resource_version,
    };
    Ok(Lease {
        uid: metadata.uid.as_deref().unwrap_or_default().into(),
        resource_version,
        owner: owner.map(|owner| owner.name.clone()),
        former: record::named(&annotations),
        incarnation: annotations.get(names::INCARNATION).map(|uid| uid.as_str().into()),
        content: Content::read(parts),
        holder_identity: spec.holder_identity.filter(|holder| !holder.is_empty()),
        renewed: spec.renew_time.is_some(),
        duration_seconds: spec.lease_duration_seconds,
        unchanged_for: SignedDuration::ZERO,
        allow_adoption_by: annotations.get(names::ALLOW_ADOPTION_BY).cloned(),
        by_sidecars: annotations.get(names::ELECTOR).is_some_and(|elector| elector == names::SIDECAR),
        acquired: spec.acquire_time.map(|MicroTime(time)| time),
        transitions: spec.lease_transitions,
    })
}

/// Returns a new, blank Lease.
pub fn blank(name: &str, owner: Owner<'_>) -> Object {
    let mut object = Object { metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }, spec: None };
    claim(&mut object, owner);
    object
}

/// Blanks the Lease: no holder, no term.
///
/// It keeps the count of transitions and the pods that it named. A paused controller may still label one of them, even one
/// that left the selector.
pub fn blanked(mut object: Object, owner: Owner<'_>) -> Object {
    let annotations = object.metadata.annotations.get_or_insert_default();
    let former = record::listed(&record::named(annotations));
    for name in [names::HOLDER, names::TERM, names::UNFENCED, names::CAUSE, names::REASON, names::CHECKSUM] {
        annotations.remove(name);
    }
    annotations.extend(former.map(|former| (names::UNFENCED.to_owned(), former)));
    let transitions = object.spec.take().and_then(|spec| spec.lease_transitions);
    object.spec = Some(LeaseSpec { lease_transitions: transitions, ..LeaseSpec::default() });
    claim(&mut object, owner);
    object
}

/// Writes a new term into the Lease. UID and resourceVersion stay those of `object`: the PUT is a compare-and-swap.
pub fn elected(mut object: Object, owner: Owner<'_>, record: &Record, acquired: Timestamp, transitions: i32) -> Object {
    let annotations = object.metadata.annotations.get_or_insert_default();
    for (name, value) in record.annotations(owner.uid) {
        match value {
            Some(value) => annotations.insert(name.into(), value),
            None => annotations.remove(name),
        };
    }
    object.spec = Some(LeaseSpec {
        holder_identity: Some(record.holder.as_ref().map_or_else(String::new, |holder| holder.name.clone())),
        acquire_time: Some(MicroTime(acquired)),
        lease_duration_seconds: Some(NEVER_EXPIRES),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    });
    claim(&mut object, owner);
    object
}

/// Marks the Lease as this Election's, in place of a former Election of the same name or of the previous elector. Other owners
/// stay.
fn claim(object: &mut Object, owner: Owner<'_>) {
    object.metadata.managed_fields = None;
    let annotations: &mut BTreeMap<_, _> = object.metadata.annotations.get_or_insert_default();
    annotations.retain(|key, _| key != names::ALLOW_ADOPTION_BY && key != names::ELECTOR);
    annotations.insert(names::INCARNATION.into(), owner.uid.into());
    let owners = object.metadata.owner_references.get_or_insert_default();
    let is_ours = |known: &OwnerReference| known.name == owner.name && known.uid == owner.uid;
    // Unchanged if correct: some clusters require more permissions to change owners than to write a Lease.
    if owners.iter().filter(|owner| is_election(owner)).map(is_ours).eq([true]) {
        return;
    }
    owners.retain(|owner| !is_election(owner));
    owners.push(OwnerReference {
        api_version: names::API_VERSION.into(),
        kind: "Election".into(),
        name: owner.name.into(),
        uid: owner.uid.into(),
        // An object has at most one controller, and garbage collection needs none.
        controller: None,
        block_owner_deletion: None,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PodRef, Term};
    use crate::lease::cause::Cause;

    const OWNER: Owner<'_> = Owner { name: "web", uid: "election-uid" };

    /// Returns the Lease as the server stores it.
    fn stored(mut object: Object) -> Lease {
        object.metadata.uid = Some("lease-uid".into());
        object.metadata.resource_version = Some("42".into());
        read(&object).unwrap()
    }

    fn record() -> Record {
        let holder = Some(PodRef { name: "web-0".into(), uid: "u0".into() });
        let term = Term::parse("41").unwrap();
        Record {
            holder,
            term,
            unfenced: ["u1".into()].into(),
            cause: Cause::Terminating,
            reason: "web-1 is terminating".into(),
        }
    }

    #[test]
    fn rule_2_a_new_lease_is_blank_and_belongs_to_its_election() {
        let lease = stored(blank("web", OWNER));
        assert_eq!((lease.content, lease.holder_identity, lease.transitions), (Content::Blank, None, None));
        assert_eq!(lease.owner.as_deref(), Some("web"));
        assert_eq!(lease.incarnation, Some("election-uid".into()));
    }

    #[test]
    fn a_term_is_read_back_as_it_was_written_and_never_expires() {
        let acquired = Timestamp::from_microsecond(1_700_000_000_123_456).unwrap();
        let object = elected(blank("web", OWNER), OWNER, &record(), acquired, 3);
        let spec = object.spec.clone().unwrap();
        assert_eq!((spec.lease_duration_seconds, spec.renew_time), (Some(NEVER_EXPIRES), None));
        let lease = stored(object);
        assert_eq!(lease.content, Content::Term(record()));
        assert_eq!((lease.acquired, lease.transitions), (Some(acquired), Some(3)));
    }

    #[test]
    fn rule_3_a_blanked_lease_keeps_the_count_the_former_holders_and_foreign_annotations() {
        let mut object = elected(blank("web", Owner { uid: "former", ..OWNER }), OWNER, &record(), Timestamp::UNIX_EPOCH, 3);
        object.metadata.annotations.get_or_insert_default().insert("example.com/note".into(), "kept".into());
        let object = blanked(object, OWNER);
        assert_eq!(object.metadata.annotations.as_ref().unwrap()["example.com/note"], "kept");
        let owners = object.metadata.owner_references.as_ref().unwrap();
        assert_eq!(owners.iter().map(|owner| owner.uid.as_str()).collect::<Vec<_>>(), ["election-uid"]);
        let lease = stored(object);
        assert_eq!((lease.content, lease.transitions), (Content::Blank, Some(3)));
        assert_eq!(lease.former, ["u0".into(), "u1".into()].into(), "the pods that it named must still be fenced");
    }

    #[test]
    fn term_of_the_same_election_keeps_the_owner_references() {
        let mut object = blank("web", OWNER);
        let owners = object.metadata.owner_references.get_or_insert_default();
        owners[0].controller = Some(false);
        owners.push(OwnerReference { kind: "Application".into(), name: "shop".into(), ..OwnerReference::default() });
        let before = object.metadata.owner_references.clone();
        let object = elected(object, OWNER, &record(), Timestamp::UNIX_EPOCH, 3);
        assert_eq!(object.metadata.owner_references, before);
        let again = blanked(object, Owner { uid: "another", ..OWNER });
        assert_ne!(again.metadata.owner_references, before);
    }

    #[test]
    fn lease_of_another_client_has_no_owner_election() {
        let lease = stored(Object::default());
        assert_eq!((lease.owner, lease.incarnation), (None, None));
        assert!(read(&Object::default()).is_err(), "no resourceVersion");
    }
}
