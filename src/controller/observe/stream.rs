//! How far one watch has come, so that answers to our own requests can be merged into what it delivers, and never undo it.

use std::collections::{BTreeMap, BTreeSet};

use super::cached::Named;
use crate::ids::{ResourceVersion, Version};

/// One watch of one kind.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The newest revision that it delivered. Everything of its kind up to here is in the cache, deletions included.
    position: Option<ResourceVersion>,
    /// The list that is arriving, while one is.
    relist: Option<Vec<Named>>,
    /// By namespace and name: objects that an answer showed to be gone, with the version that was known then. What the watch, a list
    /// that began before, or an answer that was longer under way still tells of it, or of what had the name before it, is the past.
    gone: BTreeMap<(String, String), Version>,
    /// Counts beginnings and ends of lists.
    lists: u64,
    synced: bool,
}

/// Taken before a request, shown with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    lists: u64,
}

impl Stream {
    /// Whether a complete list has arrived.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// The mark of a request that begins now.
    pub fn ticket(&self) -> Ticket {
        Ticket { lists: self.lists }
    }

    /// Whether the answer to a request, an object at this revision, tells more than the watch has delivered.
    ///
    /// Not so when the watch is past it (what it knows is as new, or the object was deleted since: the answer would bring
    /// back a ghost that no event removes), nor when a list began in between (the same, because a list shows no deletions).
    pub fn admits(&self, ticket: Ticket, revision: ResourceVersion) -> bool {
        self.is_current(ticket) && Some(revision) > self.position
    }

    /// Whether no list began, or was under way, since the ticket was taken.
    pub fn is_current(&self, ticket: Ticket) -> bool {
        self.synced && self.relist.is_none() && ticket.lists == self.lists
    }

    /// An answer showed that the object, last known at this version, is gone.
    pub fn note_gone(&mut self, namespace: &str, name: &str, known: Version) {
        self.gone.insert((namespace.into(), name.into()), known);
    }

    /// Whether this version of an object is of a time before an answer showed it to be gone. UIDs never come back.
    pub fn is_past(&self, namespace: &str, name: &str, version: &Version) -> bool {
        let gone = self.gone.get(&(namespace.to_owned(), name.to_owned()));
        gone.is_some_and(|gone| version.uid == gone.uid || version.resource_version <= gone.resource_version)
    }

    /// The watch has come to this version of an object, or to its deletion: what is gone need not be remembered beyond that.
    pub fn come_to(&mut self, namespace: &str, name: &str, version: &Version, is_deletion: bool) {
        let key = (namespace.to_owned(), name.to_owned());
        let is_over = |gone: &Version| {
            if version.uid == gone.uid { is_deletion } else { version.resource_version > gone.resource_version }
        };
        if self.gone.get(&key).is_some_and(is_over) {
            self.gone.remove(&key);
        }
    }

    /// An event arrived.
    pub fn advance(&mut self, revision: ResourceVersion) {
        self.position = self.position.max(Some(revision));
    }

    /// A list begins; what an interrupted one delivered is void.
    pub fn begin_list(&mut self) {
        self.relist = Some(Vec::new());
        self.lists += 1;
    }

    /// An object of the list arrived.
    pub fn list_item(&mut self, item: Named) {
        self.advance(item.object.version().resource_version);
        self.relist.get_or_insert_default().push(item);
    }

    /// The list is complete: what it held, but for what an answer has shown to be gone since it began.
    pub fn end_list(&mut self) -> Vec<Named> {
        self.synced = true;
        self.lists += 1;
        let items = self.relist.take().unwrap_or_default();
        let past = |item: &Named| self.is_past(&item.namespace, &item.name, &item.object.version());
        let (past, items): (Vec<_>, Vec<_>) = items.into_iter().partition(past);
        let past: BTreeSet<_> = past.into_iter().map(|item| (item.namespace, item.name)).collect();
        self.gone.retain(|object, _| past.contains(object));
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: i64) -> ResourceVersion {
        ResourceVersion::parse(&number.to_string()).unwrap()
    }

    fn synced() -> Stream {
        let mut stream = Stream::default();
        stream.begin_list();
        stream.end_list();
        stream.advance(revision(10));
        stream
    }

    #[test]
    fn an_answer_is_admitted_only_where_the_watch_has_not_been() {
        let stream = synced();
        assert!(stream.admits(stream.ticket(), revision(11)));
        assert!(!stream.admits(stream.ticket(), revision(10)));
        assert!(!stream.admits(stream.ticket(), revision(9)));
    }

    #[test]
    fn an_answer_from_before_a_list_is_not_admitted_after_it() {
        let mut stream = synced();
        let ticket = stream.ticket();
        stream.begin_list();
        assert!(!stream.admits(ticket, revision(11)), "during the list");
        let during = stream.ticket();
        assert!(!stream.admits(during, revision(11)), "during the list, asked during it");
        stream.end_list();
        assert!(!stream.admits(during, revision(11)), "after the list, asked during it");
        assert!(!stream.admits(ticket, revision(11)), "after the list");
        assert!(stream.admits(stream.ticket(), revision(11)));
    }

    #[test]
    fn nothing_is_admitted_before_the_first_list() {
        let stream = Stream::default();
        assert!(!stream.admits(stream.ticket(), revision(1)));
    }
}
