//! Command lines and environments.

use super::super::old::old_form;
use super::*;

fn line(line: &str) -> Vec<OsString> {
    words(line.into())
}

fn environment(variables: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
    move |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn old(line: &str, variables: &'static [(&'static str, &'static str)]) -> Result<Resolved, String> {
    let form = old_form(&self::line(line), environment(variables)).expect("an old form");
    resolve(&SidecarArgs::parse_as(form, self::line(line)), environment(variables), Vec::new(), "host".into())
}

fn new(line: &str) -> Result<Resolved, String> {
    let Old { sidecar, .. } = Old::try_parse_from(self::line(line)).map_err(|error| error.to_string())?;
    resolve(&sidecar, |_| None, Vec::new(), "host".into())
}

fn campaign(lock: LockKind, lease: u64, renew: u64, retry: u64) -> Mode {
    let millis = Duration::from_millis;
    let timing = Timing { lease_duration: millis(lease), renew_deadline: millis(renew), retry_period: millis(retry) };
    Mode::Campaign { lock, timing, request_timeout: None }
}

#[test]
fn options_of_the_old_leader_elector_keep_their_meaning() {
    let resolved = old("podium --election=example --http=0.0.0.0:4040", &[]).unwrap();
    assert_eq!(resolved.mode, campaign(LockKind::Endpoints, 10_000, 5_000, 2_500));
    assert_eq!((resolved.election.as_str(), resolved.namespace.as_deref()), ("example", Some("default")));
    assert_eq!((resolved.http.as_deref(), resolved.file.clone()), (Some("0.0.0.0:4040"), None));
    assert_eq!((resolved.me.name.as_str(), resolved.announce), ("host", true));
    // The image's own --id comes first, and the user's wins.
    let line = "/app/server --id=a --election example --election-namespace prod --ttl 1m0s --use-cluster-credentials=true \
                stray --id=b";
    let resolved = old(line, &[("POD_NAME", "web-0")]).unwrap();
    assert_eq!((resolved.me.name.as_str(), resolved.namespace.as_deref()), ("b", Some("prod")));
    assert_eq!(resolved.mode, campaign(LockKind::Endpoints, 60_000, 30_000, 15_000));
    assert_eq!(resolved.sources, [Source::InCluster]);
    let unsplit = vec!["podium".into(), "--election=example --http=:4040".into()];
    let sidecar = SidecarArgs::parse_as(Form::Contrib, unsplit);
    assert_eq!((sidecar.election.as_deref(), sidecar.http.as_deref()), (Some("example"), Some(":4040")));
}

#[test]
fn environment_of_supporttools_keeps_its_meaning() {
    let resolved = old("podium", &[("LEASE_NAME", "example"), ("NAMESPACE", "prod")]).unwrap();
    assert_eq!(resolved.mode, campaign(LockKind::Lease, 15_000, 10_000, 2_000));
    assert_eq!((resolved.election.as_str(), resolved.namespace.as_deref()), ("example", Some("prod")));
    assert_eq!(resolved.file, Some("/tmp/leader_status".into()));
    let with_arguments = old("/main whatever --it=is", &[("LEASE_NAME", "example"), ("NAMESPACE", "prod")]);
    assert_eq!(with_arguments, Ok(resolved));
    for missing in [[("LEASE_NAME", "example")], [("NAMESPACE", "prod")]] {
        let error = resolve(
            &SidecarArgs { form: Form::SupportTools, ..SidecarArgs::default() },
            |name| missing.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
            Vec::new(),
            "host".into(),
        );
        assert!(error.is_err_and(|error| error.contains("is not set")));
    }
}

#[test]
fn environment_of_the_forks_keeps_its_meaning() {
    let variables: &[(&str, &str)] =
        &[("LEASE_NAME", "x"), ("NAMESPACE", "y"), ("LE_LEASE_DURATION", "30s"), ("STATUS_DIR", "/shared/status")];
    let resolved = old("podium", variables).unwrap();
    assert_eq!(resolved.mode, campaign(LockKind::Lease, 30_000, 10_000, 2_000));
    assert_eq!(resolved.file, Some("/shared/status/".into()));
    assert_eq!(resolved.notes.len(), 1, "{:?}", resolved.notes);
    let refused = old("podium", &[("LEASE_NAME", "x"), ("NAMESPACE", "y"), ("LE_RETRY_PERIOD", "often")]).unwrap_err();
    assert!(refused.contains("LE_RETRY_PERIOD"), "{refused}");
}

#[test]
fn pod_name_comes_from_the_token_except_in_the_forms_of_the_old_sidecars() {
    let pod = super::super::pod::Pod { name: "web-0".into(), uid: "u".into() };
    let place = |pod| Place { pod_namespace: None, default_namespace: "default".into(), pod };
    let identify = |resolved: Resolved| {
        let me = identified(resolved.me, resolved.is_named_by_host, &place(Some(pod.clone())));
        (me.name, me.uid.unwrap_or_default())
    };
    let me = |name: &str, uid: &str| (name.to_owned(), uid.to_owned());
    assert_eq!(identify(new("sidecar --election x").unwrap()), me("web-0", "u"));
    assert_eq!(identify(new("sidecar --election x --id host").unwrap()), me("host", "u"));
    // Applications compare the response of the old sidecars with their host name.
    assert_eq!(identify(old("podium --election=x", &[]).unwrap()), me("host", "u"));
    let given = old("podium --election=x", &[("POD_NAME", "web-1"), ("POD_UID", "v")]).unwrap();
    assert_eq!(identify(given), me("web-1", "v"));
    let given = new("sidecar --election x").unwrap().me;
    assert_eq!(identified(given.clone(), true, &place(None)), given);
}

#[test]
fn subcommand_follows_by_default() {
    let resolved = new("sidecar --election example").unwrap();
    assert_eq!((resolved.mode, resolved.namespace), (Mode::Follow, None));
    let resolved = new("sidecar --mode campaign --election example --lock lease --ttl 15s").unwrap();
    assert_eq!(resolved.mode, campaign(LockKind::Lease, 15_000, 7_500, 3_750));
    assert_eq!(new("sidecar --election x --ttl 15s").unwrap().notes.len(), 1);
}

#[test]
fn invalid_options_are_rejected_with_the_remedy() {
    for (line, remedy) in [
        ("sidecar", "--election must not be empty"),
        ("sidecar --election=", "name the Lease of the Election"),
        ("sidecar --mode campaign --election x --ttl 900ms", "must be at least 1s"),
        ("sidecar --election x --ttl soon", "such as 15s"),
        ("sidecar --election x --lock configmaps", "endpoints"),
        ("sidecar --election x --max-age 1s", "must be at least 3s"),
    ] {
        let error = new(line).unwrap_err();
        assert!(error.contains(remedy), "{line}: {error}");
    }
}
