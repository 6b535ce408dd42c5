//! Asks several sidecars who leads, over and over, and finds out whether two claimed to lead at the same time.
//!
//! A sidecar decides what it answers at some instant between the moment before the request was sent and the moment after the
//! answer arrived. So two answers that claim, from two sidecars, prove nothing if their spans overlap: the one may have been
//! decided before the lead changed, the other after. But if one sidecar claims in an answer that arrived before another's
//! was asked for, and again in one that was asked for after that other's had arrived, and in every answer between, then it
//! claimed before, after, and all the time while the other claimed: two led at once. That is what is looked for. A lead that
//! ends while the next one begins is found by it, too, as soon as both are seen for longer than a request takes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::sidecar::{Connection, Sidecar, name_in, split};
use super::waiting::eventually;

/// What is asked for in turn. Each of them tells whether the sidecar claims to lead.
const PATHS: [&str; 3] = ["/leader", "/", "/status"];

/// Between two requests: to leave something of the processor to others.
const PACE: Duration = Duration::from_millis(4);

/// So many more answers show what has changed.
const MORE: usize = 30;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// A moment before it was asked for.
    pub asked: Instant,
    /// A moment after it had arrived.
    pub arrived: Instant,
    /// The same two by the wall clock.
    pub between: (Timestamp, Timestamp),
    /// Whether the sidecar claims to lead.
    pub claims: bool,
    /// The leader that it names, where the answer names one. Empty: nobody.
    pub names: Option<String>,
}

/// By the names and addresses of the sidecars.
type Answers = BTreeMap<(String, SocketAddr), Vec<Told>>;

/// Asks until it is dropped.
#[derive(Default)]
pub struct Survey {
    answers: Arc<Mutex<Answers>>,
    asking: JoinSet<()>,
}

impl Survey {
    /// Asks these, and more can follow.
    pub fn of<const N: usize>(sidecars: [&Sidecar; N]) -> Self {
        let mut survey = Self::default();
        sidecars.into_iter().for_each(|sidecar| survey.ask(sidecar));
        survey
    }

    /// Asks this one, too, until it ends.
    pub fn ask(&mut self, sidecar: &Sidecar) {
        self.asking.spawn(ask(sidecar.name.clone(), sidecar.address, self.answers.clone()));
    }

    /// All answers so far, by the names and addresses of the sidecars.
    pub fn answers(&self) -> Answers {
        self.answers.lock().expect("no panic").clone()
    }

    /// Those of this sidecar in which it claims to lead.
    pub fn claims(&self, name: &str) -> Vec<Told> {
        let of_this_name = self.answers().into_iter().filter(|((of, _), _)| of == name);
        of_this_name.flat_map(|(_, told)| told).filter(|told| told.claims).collect()
    }

    /// At no time did two lead.
    #[track_caller]
    pub fn assert_that_never_two_led(&self) {
        assert_eq!(overlap(&self.answers()), None, "two led at the same time");
    }

    /// All these sidecars are seen leading, and never two were at the same time.
    pub async fn one_by_one(&self, leaders: &[&str]) {
        for name in leaders {
            eventually(&format!("{name} is seen leading"), async || match self.claims(name).is_empty() {
                true => Err(format!("not in {} answers", self.answers().values().map(Vec::len).sum::<usize>())),
                false => Ok(()),
            })
            .await;
        }
        self.assert_that_never_two_led();
    }

    /// Waits until each of these has answered some times more: what is so now is seen.
    pub async fn go_on(&self, sidecars: &[&Sidecar]) {
        let before = self.answers();
        eventually("all of them answer on", async || {
            let now = self.answers();
            let count = |answers: &Answers, sidecar: &Sidecar| {
                answers.get(&(sidecar.name.clone(), sidecar.address)).map_or(0, Vec::len)
            };
            let late = sidecars.iter().find(|sidecar| count(&now, sidecar) < count(&before, sidecar) + MORE);
            late.map_or(Ok(()), |sidecar| Err(format!("{} has not yet", sidecar.name)))
        })
        .await;
    }

    /// How long nobody claimed to lead between these two, for people.
    pub fn gap(&self, former: &str, next: &str) -> String {
        let (last, first) = (self.claims(former).pop(), self.claims(next).into_iter().next());
        let gap = last.zip(first).map(|(last, first)| first.arrived.saturating_duration_since(last.asked));
        format!(
            "{former} to {next}: nobody claimed for {gap:?}, of {} answers",
            self.answers().values().map(Vec::len).sum::<usize>()
        )
    }
}

async fn ask(name: String, address: SocketAddr, answers: Arc<Mutex<Answers>>) {
    let Ok(mut connection) = Connection::open(address).await else { return };
    for path in PATHS.iter().cycle() {
        let (asked, asked_wall) = (Instant::now(), Timestamp::now());
        // It has ended.
        let Ok(answer) = connection.ask("GET", path).await else { return };
        let (arrived, arrived_wall) = (Instant::now(), Timestamp::now());
        let (claims, names) = read(&name, path, &answer);
        let told = Told { asked, arrived, between: (asked_wall, arrived_wall), claims, names };
        answers.lock().expect("no panic").entry((name.clone(), address)).or_default().push(told);
        sleep(PACE).await;
    }
}

/// Whether an answer claims that this sidecar leads, and whom it names.
fn read(me: &str, path: &str, answer: &str) -> (bool, Option<String>) {
    let (code, body) = split(answer);
    if path == "/leader" {
        return (code == 200, None);
    }
    let name = name_in(&body);
    let says_so = body.contains(r#""isLeader":true"#);
    (says_so || name == me, Some(name))
}

/// Two sidecars that provably claimed to lead at the same time, if there are any.
fn overlap(answers: &Answers) -> Option<String> {
    for (one, told) in answers {
        for reign in told.split(|told| !told.claims).filter(|reign| !reign.is_empty()) {
            let (from, until) = (reign[0].arrived, reign[reign.len() - 1].asked);
            for (other, told) in answers.iter().filter(|(other, _)| *other != one) {
                let within = |told: &&Told| told.claims && told.asked >= from && told.arrived <= until;
                if let Some(told) = told.iter().find(within) {
                    let (begun, left) = (told.asked - from, until - told.arrived);
                    return Some(format!(
                        "{one:?} had claimed for {begun:?} when {other:?} did, and went on for {left:?} ({:?})",
                        told.between
                    ));
                }
            }
        }
    }
    None
}

/// The check can fail: hand-made answers. No cluster is needed.
mod tests {
    use super::*;

    /// Answers of a sidecar: from when to when each took in milliseconds, and whether it claims.
    fn told(begin: Instant, spans: &[(u64, u64, bool)]) -> Vec<Told> {
        let at = |millis| begin + Duration::from_millis(millis);
        let between = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let told = |&(from, until, claims)| Told { asked: at(from), arrived: at(until), between, claims, names: None };
        spans.iter().map(told).collect()
    }

    fn found(one: &[(u64, u64, bool)], other: &[(u64, u64, bool)]) -> bool {
        let (begin, address) = (Instant::now(), SocketAddr::from(([127, 0, 0, 1], 1)));
        let of = |name: &str, spans| ((name.to_owned(), address), told(begin, spans));
        overlap(&[of("a", one), of("b", other)].into()).is_some()
    }

    #[test]
    fn overlapping_claims_are_found() {
        assert!(found(&[(0, 1, true), (10, 11, true)], &[(4, 5, true)]));
        assert!(found(&[(4, 5, true)], &[(0, 1, true), (3, 6, true), (10, 11, true)]));
        assert!(found(&[(0, 1, true), (10, 11, true), (12, 13, false)], &[(4, 5, true), (20, 21, true)]));
    }

    #[test]
    fn a_lead_that_changes_between_two_answers_proves_nothing() {
        let one = [(0, 1, true), (4, 8, true), (10, 11, false)];
        assert!(!found(&one, &[(0, 1, false), (5, 9, true), (12, 13, true)]));
        assert!(!found(&[(0, 1, true), (3, 4, false), (10, 11, true)], &[(5, 6, true), (8, 9, false)]));
        assert!(!found(&[(0, 1, true), (10, 11, true)], &[(4, 5, false)]));
    }

    #[test]
    fn claims_are_read_from_every_answer() {
        let answer = |code: u16, body: &str| format!("HTTP/1.1 {code} X\r\nContent-Length: 1\r\n\r\n{body}");
        assert_eq!(read("a", "/leader", &answer(200, "leader\n")), (true, None));
        assert_eq!(read("a", "/leader", &answer(503, "not leader\n")), (false, None));
        assert_eq!(read("a", "/", &answer(200, r#"{"name":"a"}"#)), (true, Some("a".into())));
        assert_eq!(read("a", "/", &answer(200, r#"{"name":"b"}"#)), (false, Some("b".into())));
        assert_eq!(read("a", "/status", &answer(200, r#"{"isLeader":true,"name":""}"#)), (true, Some(String::new())));
    }
}
