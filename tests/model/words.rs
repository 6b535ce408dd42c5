//! Descriptions of actions and worlds.

use crate::controller::name_text;
use crate::followed::Followed;
use crate::protocol::{Action, Asked, Fate, Step, What};
use crate::world::*;

/// Describes an action.
pub fn words(action: Action) -> String {
    let pod = |index: usize| name_text(Uid::try_from(index).expect("few pods"));
    match action {
        Action::Controller(number, step) => {
            let what = match step {
                Step::SeeLease => "its watch shows it the Lease".to_owned(),
                Step::SeePods => "its watch shows it the pods".into(),
                Step::SeeElection => "its watch shows it the Election".into(),
                Step::SeeFollowed => "its watch shows it the followed Lease".into(),
                Step::ExpireFollowed => "has seen that version of the followed Lease until it expired".into(),
                Step::SeeNodes => "its watch shows it the nodes".into(),
                Step::Elapse(uid) => format!("pod {} has outranked the leader for the delay", name_text(uid)),
                Step::Expire => "has seen that version of the Lease until it expired".into(),
                Step::Decide => "decides".into(),
                Step::ListPods => "lists the pods".into(),
                Step::GetElection => "reads the Election".into(),
                Step::GetLease => "reads the Lease".into(),
                Step::GetFollowed => "reads the followed Lease".into(),
                Step::Crash => "crashes and starts again".into(),
                Step::Send(what, fate) => {
                    let what = match what {
                        What::Lease => "writes the Lease".to_owned(),
                        What::Fence(index) => format!("fences (number {index} of its plan)"),
                        What::Label => "labels".into(),
                        What::Claim => "claims".into(),
                        What::Background => "claims the next in line, in the background".into(),
                        What::Status => "writes the status".into(),
                    };
                    match fate {
                        Fate::Answered => what,
                        Fate::AnswerLost => format!("{what}; the answer is lost"),
                        Fate::Delayed => format!("{what}; the request is held up in the network"),
                        Fate::Altered(lie) => format!("{what}; the server answers with success and {}", altered(lie)),
                    }
                }
            };
            format!("C{}: {what}", number + 1)
        }
        Action::DeletePod(index) => format!("pod {} is deleted", pod(index)),
        Action::CreatePod(index) => format!("pod {} is created anew", pod(index)),
        Action::Flip(index) => format!("pod {} turns ready or unready", pod(index)),
        Action::Unlabel(index) => format!("the label of pod {} is removed by hand", pod(index)),
        Action::DeleteLease => "the Lease is deleted".into(),
        Action::EditLease => "the Lease is edited by hand".into(),
        Action::WipeStatus => "the status is wiped".into(),
        Action::Suspend => "elections are suspended or resumed".into(),
        Action::Renew => "the sidecar renews the Lease".into(),
        Action::DeleteElection => "the Election is deleted".into(),
        Action::CreateElection(selector) => format!("an Election that selects {} is created", names(selector)),
        Action::EditSelector(selector) => format!("the Election's selector becomes {}", names(selector)),
        Action::MovePod(index) => {
            format!("the labels of pod {} are edited: it is moved out of the selector, or back", pod(index))
        }
        Action::Request(asked, to) => {
            let term = match asked {
                Asked::Past => "a past",
                Asked::Present => "the present",
                Asked::Next => "the next",
            };
            let to = to.map_or_else(String::new, |to| format!(" to pod {}", pod(to)));
            format!("a user requests a switchover{to}, to end {term} term")
        }
        Action::Drain(index) => format!("the node of pod {} begins or ceases to drain", pod(index)),
        Action::Prefer(index) => format!("the priority of pod {} is raised or lowered", pod(index)),
        Action::Hold(None) => "the followed Lease is released".into(),
        Action::Hold(Some(holder)) => format!("pod {} acquires the followed Lease", pod(holder)),
        Action::RenewFollowed => "the followed Lease is renewed".into(),
        Action::Lapse => "the followed Lease is not renewed for its duration".into(),
        Action::DeleteFollowed => "the followed Lease is deleted".into(),
        Action::CollectLease => "the Lease of the former Election is garbage-collected".into(),
        Action::Deliver(index) => format!("the server gets the late write number {index}"),
    }
}

fn altered(lie: Lie) -> &'static str {
    match lie {
        Lie::KeepsLabel => "keeps the label",
        Lie::DropsLabel => "drops the label",
        Lie::DropsClaim => "keeps the claim as it was",
        Lie::DropsList => "drops the list of former holders",
        Lie::KeepsTerm => "keeps the former term",
        Lie::DropsRecord => "drops Podium's annotations",
        Lie::KeepsLease => "keeps the Lease as it was",
    }
}

fn names(selector: Selector) -> String {
    let matched = (0..NAMES).filter(|index| selector & (1 << index) != 0);
    matched.map(|index| name_text(Uid::try_from(index).expect("few pods"))).collect::<Vec<_>>().join(", ")
}

/// Describes a world.
pub fn look(world: &World) -> String {
    let pods = world.pods.iter().flatten().map(|pod| {
        let mut text = format!("{}#{}@{}", name_text(pod.uid), usize::from(pod.uid) / NAMES, pod.rev);
        text += &if pod.claimed { format!(":{}", pod.term) } else { String::new() };
        text += if pod.label { " LABELED" } else { "" };
        text += if pod.ready { "" } else { " unready" };
        text += if pod.preferred { " preferred" } else { "" };
        text += if drains(world.draining, pod) { " draining" } else { "" };
        text += if world.election.is_none_or(|election| election.matches(pod)) { "" } else { " unmatched" };
        text
    });
    let lease = world.lease.map_or("no Lease".into(), |lease| match lease.content {
        Content::Term(Record { holder, term, unfenced, request: _, expired: _ }) => {
            let holder =
                holder.map_or("nobody".to_owned(), |uid| format!("{}#{}", name_text(uid), usize::from(uid) / NAMES));
            let unfenced: Vec<_> = (0..16).filter(|uid| has(unfenced, *uid)).map(name_text).collect();
            format!("Lease@{} ({holder}, {term}, {unfenced:?})", lease.rev)
        }
        other => format!("Lease@{} {other:?}", lease.rev),
    });
    let followed = world.followed.map_or_else(String::new, |Followed { rev, holder, exists, lapsed, .. }| {
        let holder = holder.map_or("nobody", |holder| name_text(Uid::try_from(holder).expect("few pods")));
        let state = [(!exists, " deleted"), (lapsed, " lapsed")].map(|(is, word)| if is { word } else { "" }).concat();
        format!("followed@{rev} ({holder}){state}; ")
    });
    let election = world.election.map_or("no Election; ".to_owned(), |election| match election.request {
        0 => format!("Election#{}; ", election.uid),
        request => format!("Election#{} (end term {request}); ", election.uid),
    });
    format!("{election}{lease}; {followed}{}", pods.collect::<Vec<_>>().join(", "))
}
