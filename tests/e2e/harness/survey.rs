//! Asks several sidecars who leads, repeatedly, and finds out whether two claimed to lead at the same time.
//!
//! A sidecar decides its response at some instant between the moment before the request was sent and the moment after the
//! response arrived. So claims of two sidecars prove nothing if these spans overlap: one may have been decided before the
//! leader changed, the other one after. Suppose that one sidecar claims in a response that arrived before another sidecar
//! was asked, again in one requested after the other's response had arrived, and in every response between. Then it claimed
//! before, after, and all the time while the other one claimed: two led at once. The survey looks for this. It also finds a
//! leader that ends while the next one begins, once both are seen for longer than a request takes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::sidecar::{Connection, Sidecar, name_in, split};
use super::waiting::eventually;

/// Requested in turn. Each shows whether the sidecar claims to lead.
const PATHS: [&str; 3] = ["/leader", "/", "/status"];

/// Time between two requests, to leave CPU to others.
const PACE: Duration = Duration::from_millis(4);

/// Number of further responses that show a change.
const MORE: usize = 30;

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// A moment before the request.
    pub asked: Instant,
    /// A moment after the response arrived.
    pub arrived: Instant,
    /// The same two by the wall clock.
    pub between: (Timestamp, Timestamp),
    /// The sidecar claims to lead.
    pub claims: bool,
    /// The named leader, if the response has one. Empty: none.
    pub names: Option<String>,
}

/// By name and address of the sidecar.
type Answers = BTreeMap<(String, SocketAddr), Vec<Told>>;

/// Asks until it is dropped.
#[derive(Default)]
pub struct Survey {
    answers: Arc<Mutex<Answers>>,
    asking: JoinSet<()>,
}

impl Survey {
    /// Asks these sidecars; more can follow.
    pub fn of<const N: usize>(sidecars: [&Sidecar; N]) -> Self {
        let mut survey = Self::default();
        sidecars.into_iter().for_each(|sidecar| survey.ask(sidecar));
        survey
    }

    /// Also asks this sidecar, until it exits.
    pub fn ask(&mut self, sidecar: &Sidecar) {
        self.asking.spawn(ask(sidecar.name.clone(), sidecar.address, self.answers.clone()));
    }

    /// All responses so far.
    pub fn answers(&self) -> Answers {
        self.answers.lock().expect("no panic").clone()
    }

    /// Responses in which this sidecar claims to lead.
    pub fn claims(&self, name: &str) -> Vec<Told> {
        let of_this_name = self.answers().into_iter().filter(|((of, _), _)| of == name);
        of_this_name.flat_map(|(_, told)| told).filter(|told| told.claims).collect()
    }

    #[track_caller]
    pub fn assert_that_never_two_led(&self) {
        assert_eq!(overlap(&self.answers()), None, "two led at the same time");
    }

    /// Waits until all these sidecars have led, and asserts that no two led at the same time.
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

    /// Waits for more responses of each, which show the current state.
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

    /// Describes the time without a leader between these two.
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
        // The sidecar has exited.
        let Ok(answer) = connection.ask("GET", path).await else { return };
        let (arrived, arrived_wall) = (Instant::now(), Timestamp::now());
        let (claims, names) = read(&name, path, &answer);
        let told = Told { asked, arrived, between: (asked_wall, arrived_wall), claims, names };
        answers.lock().expect("no panic").entry((name.clone(), address)).or_default().push(told);
        sleep(PACE).await;
    }
}

/// Returns whether the response claims that this sidecar leads, and whom it names.
fn read(me: &str, path: &str, answer: &str) -> (bool, Option<String>) {
    let (code, body) = split(answer);
    if path == "/leader" {
        return (code == 200, None);
    }
    let name = name_in(&body);
    let says_so = body.contains(r#""isLeader":true"#);
    (says_so || name == me, Some(name))
}

/// Two sidecars that provably claimed to lead at the same time, if any.
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

/// The check can fail: made-up responses. They need no cluster.
mod tests {
    use super::*;

    /// Responses of a sidecar: start and end of each in milliseconds, and whether it claims.
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
