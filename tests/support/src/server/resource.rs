//! Kinds of objects, and their paths.

/// The kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// `pods`
    Pods,
    /// `leases`
    Leases,
    /// `elections`
    Elections,
    /// `events` of `events.k8s.io`
    Events,
    /// `nodes`
    Nodes,
    /// `customresourcedefinitions`
    Definitions,
}

impl Resource {
    const ALL: [Self; 6] = [Self::Pods, Self::Leases, Self::Elections, Self::Events, Self::Nodes, Self::Definitions];

    /// API group, version, plural and kind.
    pub fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Pods => ("", "v1", "pods", "Pod"),
            Self::Leases => ("coordination.k8s.io", "v1", "leases", "Lease"),
            Self::Elections => ("podium.dev", "v1beta1", "elections", "Election"),
            Self::Events => ("events.k8s.io", "v1", "events", "Event"),
            Self::Nodes => ("", "v1", "nodes", "Node"),
            Self::Definitions => ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"),
        }
    }

    /// `apiVersion` of its objects.
    pub fn api_version(self) -> String {
        let (group, version, ..) = self.names();
        if group.is_empty() { version.into() } else { format!("{group}/{version}") }
    }

    /// The path of one object, or of all. The namespace does not count for objects of the whole cluster.
    pub fn path(self, namespace: &str, name: Option<&str>) -> String {
        let (group, version, plural, _) = self.names();
        let namespace = if matches!(self, Self::Nodes | Self::Definitions) { "" } else { namespace };
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let namespace = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        let name = name.map_or_else(String::new, |name| format!("/{name}"));
        format!("{root}{namespace}/{plural}{name}")
    }
}

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kind of its objects.
    pub resource: Resource,
    /// The namespace, if any.
    pub namespace: Option<String>,
    /// The object's name, if any.
    pub name: Option<String>,
    /// It is the status subresource.
    pub status: bool,
}

impl Place {
    /// `None`: the path is not served.
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let group = match (parts.first().copied()?, parts.len()) {
            ("api", 3..) => "",
            ("apis", 4..) => parts.remove(1),
            _ => return None,
        };
        let version = parts[1];
        let namespace = (parts.get(2) == Some(&"namespaces") && parts.len() > 4).then(|| parts[3].to_owned());
        let mut rest = parts.iter().skip(if namespace.is_some() { 4 } else { 2 });
        let plural = *rest.next()?;
        let found = |resource: &Resource| {
            let (its_group, its_version, its_plural, _) = resource.names();
            (its_group, its_version, its_plural) == (group, version, plural)
        };
        let resource = Resource::ALL.into_iter().find(found)?;
        let name = rest.next().map(|name| (*name).to_owned());
        let status = match rest.next() {
            None => false,
            Some(&"status") => true,
            Some(_) => return None,
        };
        Some(Self { resource, namespace, name, status })
    }
}
