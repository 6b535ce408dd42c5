//! One answer for all who asked before the request for it began.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, Weak};

use crate::sync;

/// Requests by what they are about, that many may wait for at once.
///
/// Whoever asks while one is under way waits for the next one: an answer that began before the question may be older than what
/// made somebody ask. All who wait by then share that next one. Nothing is kept once nobody waits.
#[derive(Debug)]
pub struct Joint<T>(Mutex<HashMap<String, Weak<Requests<T>>>>);

#[derive(Debug)]
struct Requests<T> {
    /// How many have begun.
    begun: Mutex<u64>,
    /// The latest that has ended: its number and its answer.
    ended: tokio::sync::Mutex<Option<(u64, T)>>,
}

impl<T> Default for Joint<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Joint<T> {
    /// The answer to a request about this that begins after now.
    pub async fn ask<F: Future<Output = T>>(&self, about: &str, request: impl FnOnce() -> F) -> T {
        let requests = self.requests(about);
        let before = *sync::lock(&requests.begun);
        let mut ended = requests.ended.lock().await;
        if let Some((_, answer)) = ended.as_ref().filter(|(number, _)| *number > before) {
            return answer.clone();
        }
        let number = {
            let mut begun = sync::lock(&requests.begun);
            *begun += 1;
            *begun
        };
        let answer = request().await;
        *ended = Some((number, answer.clone()));
        answer
    }

    fn requests(&self, about: &str) -> Arc<Requests<T>> {
        let mut all = sync::lock(&self.0);
        if let Some(requests) = all.get(about).and_then(Weak::upgrade) {
            return requests;
        }
        all.retain(|_, requests| requests.strong_count() > 0);
        let requests = Arc::new(Requests { begun: Mutex::new(0), ended: tokio::sync::Mutex::new(None) });
        all.insert(about.to_owned(), Arc::downgrade(&requests));
        requests
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use futures::future::{join, join_all};
    use tokio::time::{sleep, timeout};

    use super::*;

    const LONG: Duration = Duration::from_secs(1);

    /// Counts its requests, each of which takes a second, and answers with the number.
    #[derive(Default)]
    struct Counted(AtomicU32, Joint<u32>);

    impl Counted {
        async fn ask(&self, about: &str) -> u32 {
            let request = || async {
                let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
                sleep(LONG).await;
                number
            };
            self.1.ask(about, request).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_while_a_request_is_under_way_shares_the_next_one_with_all_who_wait() {
        let counted = Counted::default();
        let later = async {
            sleep(LONG / 2).await;
            join_all((0..100).map(|_| counted.ask("a"))).await
        };
        let (first, later) = join(counted.ask("a"), later).await;
        assert_eq!((first, later), (1, vec![2; 100]));
        assert_eq!(counted.ask("a").await, 3, "an answer is not kept");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_about_different_things_do_not_wait_for_each_other() {
        let counted = Counted::default();
        let both = timeout(LONG, join(counted.ask("a"), counted.ask("b"))).await;
        let (a, b) = both.expect("side by side");
        assert_eq!(a + b, 3);
        counted.ask("c").await;
        assert_eq!(counted.1.0.lock().unwrap().len(), 1, "nothing is left of those that nobody waits for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_is_made_by_the_next_who_waits() {
        let counted = Counted::default();
        let (given_up, waited) = join(timeout(LONG / 2, counted.ask("a")), counted.ask("a")).await;
        assert!(given_up.is_err());
        assert_eq!(waited, 2);
    }
}
