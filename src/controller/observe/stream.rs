//! Position of a watch, by which responses to the controller's own requests are merged into its events and never undo them.

use std::collections::{BTreeMap, BTreeSet};

use super::cached::Named;
use crate::ids::{ResourceVersion, Version};

/// One watch of one kind.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Newest revision that it delivered. Every change of its kind up to here is in the cache, deletions included.
    position: Option<ResourceVersion>,
    /// Objects of a list in progress.
    relist: Option<Vec<Named>>,
    /// By namespace and name: objects that a response showed to be deleted, with the version known then. Whatever the watch,
    /// an earlier list or a slower response still reports about such an object, or about its predecessor of that name, is
    /// stale.
    gone: BTreeMap<(String, String), Version>,
    /// Number of starts and ends of lists.
    lists: u64,
    synced: bool,
}

/// Taken before a request, presented with its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    lists: u64,
}

impl Stream {
    /// Returns whether a complete list has arrived.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Returns the ticket of a request that begins now.
    pub fn ticket(&self) -> Ticket {
        Ticket { lists: self.lists }
    }

    /// Returns whether a response with an object at this revision is newer than what the watch has delivered.
    ///
    /// It is not if the watch is past that revision: the cache is as new, or the object was deleted since, and the response
    /// would restore a ghost that no event removes. Nor is it if a list began in between: a list shows no deletions.
    pub fn admits(&self, ticket: Ticket, revision: ResourceVersion) -> bool {
        self.is_current(ticket) && Some(revision) > self.position
    }

    /// Returns whether no list began or was in progress since the ticket was taken.
    pub fn is_current(&self, ticket: Ticket) -> bool {
        self.synced && self.relist.is_none() && ticket.lists == self.lists
    }

    /// Records that the object, last known at this version, is deleted.
    pub fn note_gone(&mut self, namespace: &str, name: &str, known: Version) {
        self.gone.insert((namespace.into(), name.into()), known);
    }

    /// Returns whether this version of an object precedes the response that showed it to be deleted. UIDs never recur.
    pub fn is_past(&self, namespace: &str, name: &str, version: &Version) -> bool {
        let gone = self.gone.get(&(namespace.to_owned(), name.to_owned()));
        gone.is_some_and(|gone| version.uid == gone.uid || version.resource_version <= gone.resource_version)
    }

    /// Records that the watch reached this version of an object, or its deletion. A deleted object is not remembered beyond
    /// that.
    pub fn come_to(&mut self, namespace: &str, name: &str, version: &Version, is_deletion: bool) {
        let key = (namespace.to_owned(), name.to_owned());
        let is_over = |gone: &Version| {
            if version.uid == gone.uid { is_deletion } else { version.resource_version > gone.resource_version }
        };
        if self.gone.get(&key).is_some_and(is_over) {
            self.gone.remove(&key);
        }
    }

    /// Records an event at this revision.
    pub fn advance(&mut self, revision: ResourceVersion) {
        self.position = self.position.max(Some(revision));
    }

    /// Starts a list, and discards what an interrupted one delivered.
    pub fn begin_list(&mut self) {
        self.relist = Some(Vec::new());
        self.lists += 1;
    }

    /// Adds an object of the list.
    pub fn list_item(&mut self, item: Named) {
        self.advance(item.object.version().resource_version);
        self.relist.get_or_insert_default().push(item);
    }

    /// Ends the list. Returns its objects without those that a response has shown to be deleted since it began.
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
