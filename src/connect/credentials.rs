//! Credentials that change while the process runs: replaced files, and exec plugins.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, Response, StatusCode};
use kube::Config;
use kube::client::{AuthError, Body};
use kube::config::AuthInfo;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tower::util::BoxCloneService;
use tower::{BoxError, Service, ServiceExt};
use tracing::{info, warn};

use super::{ConnectError, stack};
use crate::sync;

/// The service that sends requests with credentials.
pub type Stack = BoxCloneService<Request<Body>, Response<Incoming>, BoxError>;

/// The maximum age of a token in memory. The kubelet replaces token files long before they expire.
const MAX_TOKEN_AGE: Duration = Duration::from_secs(10);

/// The minimum time between two reloads of rejected credentials: a plugin may be slow, or ask its user.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// A file that holds a token.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    read: Mutex<(HeaderValue, Instant)>,
}

impl TokenFile {
    /// Removes the file from these credentials. It has precedence over a token, as in kubectl.
    ///
    /// kube prefers the token, and sends the line break at the end of the file.
    ///
    /// # Errors
    /// A file that cannot be read, if there is no token.
    pub fn take(credentials: &mut AuthInfo) -> Result<Option<Self>, ConnectError> {
        let Some(path) = credentials.token_file.take() else { return Ok(None) };
        match read(&path) {
            Ok(header) => {
                credentials.token = None;
                Ok(Some(Self { path: path.into(), read: Mutex::new((header, Instant::now())) }))
            }
            Err(_) if credentials.token.is_some() => Ok(None),
            Err(error) => Err(ConnectError::TokenFile { path, error }),
        }
    }

    /// Returns the header. The last token stays while the file is unreadable.
    pub fn header(&self) -> HeaderValue {
        let mut state = sync::lock(&self.read);
        if state.1.elapsed() >= MAX_TOKEN_AGE {
            if let Ok(header) = read(&self.path) {
                state.0 = header;
            }
            state.1 = Instant::now();
        }
        state.0.clone()
    }
}

fn read(path: impl AsRef<std::path::Path>) -> Result<HeaderValue, String> {
    let token = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let token = token.trim();
    if token.is_empty() {
        return Err("it is empty".into());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| "it contains no token".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}

/// Adds the token to a request.
pub fn authorize(token: Option<&TokenFile>, mut request: Request<Body>) -> Request<Body> {
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, token.header());
    }
    request
}

/// Sends requests, and reloads the credentials when the API server rejects them (401).
///
/// kube runs a plugin again only if its token has an expiry, and reads certificates once.
#[derive(Clone)]
pub struct Reloading {
    config: Arc<Config>,
    current: Arc<Mutex<Current>>,
    /// Locked while loading: the time of the last load, and its error.
    loading: Arc<tokio::sync::Mutex<(Instant, Option<String>)>>,
}

struct Current {
    stack: Stack,
    /// The number of reloads before.
    number: u64,
}

impl Reloading {
    /// Loads the credentials for the first time.
    ///
    /// # Errors
    /// An unusable configuration.
    pub fn new(config: Config) -> Result<Self, ConnectError> {
        let current = Current { stack: stack(&config)?, number: 0 };
        Ok(Self {
            config: Arc::new(config),
            current: Arc::new(Mutex::new(current)),
            loading: Arc::new(tokio::sync::Mutex::new((Instant::now(), None))),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        sync::lock(&self.current)
    }

    fn current(&self) -> (Stack, u64) {
        let current = self.lock();
        (current.stack.clone(), current.number)
    }

    /// Returns whether a reload may return other credentials.
    fn can_change(&self) -> bool {
        let AuthInfo { token_file, client_certificate, client_key, auth_provider, exec, .. } = &self.config.auth_info;
        let files = [token_file, client_certificate, client_key];
        files.into_iter().any(Option::is_some) || auth_provider.is_some() || exec.is_some()
    }

    /// Reloads the credentials with this number. Returns whether others are current.
    async fn reload(&self, number: u64) -> bool {
        let mut loading = self.loading.lock().await;
        if self.lock().number != number {
            return true;
        }
        let is_first = number == 0 && loading.1.is_none();
        if !is_first && loading.0.elapsed() < RELOAD_INTERVAL {
            return false;
        }
        loading.0 = Instant::now();
        let config = self.config.clone();
        // Loading may wait for a plugin's process.
        let loaded = spawn_blocking(move || stack(&config)).await;
        let why = match loaded {
            Ok(Ok(stack)) => {
                info!("the API server rejected the credentials, reloaded them");
                *self.lock() = Current { stack, number: number + 1 };
                loading.1 = None;
                return true;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if loading.1.as_ref() != Some(&why) {
            warn!("the API server rejected the credentials and reloading them failed, retrying: {why}");
        }
        loading.1 = Some(why);
        false
    }
}

impl Service<Request<Body>> for Reloading {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            if !this.can_change() {
                return this.current().0.oneshot(request).await;
            }
            let (request, again) = twice(request);
            let (stack, number) = this.current();
            let answer = stack.oneshot(request).await;
            let refused = match &answer {
                Ok(response) => response.status() == StatusCode::UNAUTHORIZED,
                Err(error) => is_about_credentials(error),
            };
            // A request that was rejected for its credentials was not executed, so it may be sent again.
            let Some(again) = again.filter(|_| refused) else { return answer };
            if this.reload(number).await { this.current().0.oneshot(again).await } else { answer }
        })
    }
}

/// Returns the request, and a copy unless its body is a stream.
fn twice(request: Request<Body>) -> (Request<Body>, Option<Request<Body>>) {
    let (parts, body) = request.into_parts();
    let again = body.try_clone().map(|body| Request::from_parts(parts.clone(), body));
    (Request::from_parts(parts, body), again)
}

/// Returns whether the error comes from a plugin.
fn is_about_credentials(error: &BoxError) -> bool {
    error.is::<AuthError>() || error.source().is_some_and(|source| source.is::<AuthError>())
}
