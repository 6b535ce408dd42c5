//! Coalesces concurrent requests about the same thing into one.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, Weak};

use crate::sync;

/// Coalesced requests by what they are about.
///
/// A caller during a request waits for the next one, because the running request may be older than the caller's reason. All
/// callers that wait by then share the next response. It is dropped once no caller waits.
#[derive(Debug)]
pub struct Coalesced<T>(Mutex<HashMap<String, Weak<Requests<T>>>>);

#[derive(Debug)]
struct Requests<T> {
    /// Number of started requests.
    started: Mutex<u64>,
    /// Number and response of the latest completed request.
    completed: tokio::sync::Mutex<Option<(u64, T)>>,
}

impl<T> Default for Coalesced<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Coalesced<T> {
    /// Returns the response to a request that starts after this call.
    pub async fn request<F: Future<Output = T>>(&self, about: &str, send: impl FnOnce() -> F) -> T {
        let requests = self.requests(about);
        let before = *sync::lock(&requests.started);
        let mut completed = requests.completed.lock().await;
        if let Some((_, response)) = completed.as_ref().filter(|(number, _)| *number > before) {
            return response.clone();
        }
        let number = {
            let mut started = sync::lock(&requests.started);
            *started += 1;
            *started
        };
        let response = send().await;
        *completed = Some((number, response.clone()));
        response
    }

    fn requests(&self, about: &str) -> Arc<Requests<T>> {
        let mut all = sync::lock(&self.0);
        if let Some(requests) = all.get(about).and_then(Weak::upgrade) {
            return requests;
        }
        all.retain(|_, requests| requests.strong_count() > 0);
        let requests = Arc::new(Requests { started: Mutex::new(0), completed: tokio::sync::Mutex::new(None) });
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

    /// Returns the number of each request, which takes a second.
    #[derive(Default)]
    struct Counted(AtomicU32, Coalesced<u32>);

    impl Counted {
        async fn ask(&self, about: &str) -> u32 {
            let request = || async {
                let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
                sleep(LONG).await;
                number
            };
            self.1.request(about, request).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_during_a_request_share_the_next_one() {
        let counted = Counted::default();
        let later = async {
            sleep(LONG / 2).await;
            join_all((0..100).map(|_| counted.ask("a"))).await
        };
        let (first, later) = join(counted.ask("a"), later).await;
        assert_eq!((first, later), (1, vec![2; 100]));
        assert_eq!(counted.ask("a").await, 3, "the response is dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_about_different_things_run_concurrently() {
        let counted = Counted::default();
        let both = timeout(LONG, join(counted.ask("a"), counted.ask("b"))).await;
        let (a, b) = both.expect("concurrently");
        assert_eq!(a + b, 3);
        counted.ask("c").await;
        assert_eq!(counted.1.0.lock().unwrap().len(), 1, "requests without callers are dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_request_is_sent_by_the_next_caller() {
        let counted = Counted::default();
        let (dropped, waited) = join(timeout(LONG / 2, counted.ask("a")), counted.ask("a")).await;
        assert!(dropped.is_err());
        assert_eq!(waited, 2);
    }
}
