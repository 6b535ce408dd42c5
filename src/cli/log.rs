//! The log: its level and format, and traces.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use podium::controller::options::SetLog;
#[cfg(feature = "otlp")]
use podium::traces::Export;
#[cfg(feature = "otlp")]
use tracing::{Subscriber, warn};
use tracing_subscriber::EnvFilter;
#[cfg(feature = "otlp")]
use tracing_subscriber::{
    fmt::{self, MakeWriter},
    layer::{Layer, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

#[derive(Clone, Debug, Default, Args)]
pub struct LogArgs {
    /// Format of log lines.
    #[arg(long, env = "PODIUM_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Log level: error, warn, info, debug or trace, or directives such as `podium=debug,kube_client=debug`.
    #[arg(long, alias = "log", env = "PODIUM_LOG_LEVEL", default_value = "info")]
    log_level: String,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogArgs {
    /// Starts the log on stderr. Returns the function that changes its level.
    ///
    /// # Errors
    /// Invalid directives.
    pub fn begin(self) -> Result<SetLog, String> {
        let Self { log_format, log_level } = self;
        let begins = filter(&log_level).map_err(|error| format!("--log-level {log_level:?} is invalid: {error}"))?;
        let subscriber = tracing_subscriber::fmt().with_env_filter(begins).with_writer(io::stderr);
        Ok(match log_format {
            LogFormat::Text => {
                let subscriber = subscriber.with_target(false).with_ansi(io::stderr().is_terminal());
                let subscriber = subscriber.with_filter_reloading();
                let handle = subscriber.reload_handle();
                subscriber.init();
                Arc::new(move |log| handle.reload(filter(log)?).map_err(|error| error.to_string()))
            }
            LogFormat::Json => {
                let subscriber = subscriber.json().flatten_event(true).with_filter_reloading();
                let handle = subscriber.reload_handle();
                subscriber.init();
                Arc::new(move |log| handle.reload(filter(log)?).map_err(|error| error.to_string()))
            }
        })
    }

    /// Like [`LogArgs::begin`], and exports traces if the environment names an endpoint. Log and export have separate filters.
    ///
    /// # Errors
    /// Invalid directives. An invalid endpoint is only logged, because elections do not need traces.
    #[cfg(feature = "otlp")]
    pub fn begin_exporting(self) -> Result<(SetLog, Option<Export>), String> {
        let export = match Export::from_environment(|name| std::env::var(name).ok()) {
            Ok(Some(export)) => export,
            Ok(None) => return Ok((self.begin()?, None)),
            Err(why) => {
                let set_log = self.begin()?;
                warn!("failed to export traces: {why}");
                return Ok((set_log, None));
            }
        };
        let (subscriber, set_log) = self.subscriber(&export, io::stderr)?;
        subscriber.init();
        Ok((set_log, Some(export)))
    }

    /// Returns the subscriber that writes lines to `writer` and exports spans.
    #[cfg(feature = "otlp")]
    fn subscriber<W>(self, export: &Export, writer: W) -> Result<(impl Subscriber + Send + Sync + use<W>, SetLog), String>
    where
        W: for<'line> MakeWriter<'line> + Send + Sync + 'static,
    {
        let Self { log_format, log_level } = self;
        let begins = filter(&log_level).map_err(|error| format!("--log-level {log_level:?} is invalid: {error}"))?;
        let (begins, handle) = reload::Layer::new(begins);
        let lines = fmt::layer().with_writer(writer);
        let lines = match log_format {
            LogFormat::Text => lines.with_target(false).with_ansi(io::stderr().is_terminal()).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(begins)).with(export.layer());
        let set_log = move |log: &str| handle.reload(filter(log)?).map_err(|error| error.to_string());
        Ok((subscriber, Arc::new(set_log)))
    }
}

/// Mutes kube: Podium logs each failed request once, with the remedy.
fn filter(log: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(format!("kube_client=off,kube_runtime=off,{log}")).map_err(|error| error.to_string())
}

#[cfg(all(test, feature = "otlp"))]
mod tests {
    use std::sync::Mutex;

    use tracing::{debug, debug_span, info};

    use super::*;

    /// The lines of the log.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the log of a reconcile with a debug and an info event.
    fn reconcile(lines: &Lines) -> String {
        debug_span!(target: "podium::controller::reconcile", "reconcile", election = "web").in_scope(|| {
            debug!(target: "podium::controller::reconcile", "looked again");
            info!(target: "podium::controller::reconcile", "leader changed");
        });
        String::from_utf8(std::mem::take(&mut *lines.0.lock().expect("nobody panicked"))).expect("text")
    }

    #[test]
    fn log_level_can_change_while_all_spans_are_exported() {
        for log_format in [LogFormat::Text, LogFormat::Json] {
            let endpoint = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| "http://127.0.0.1:1".to_owned());
            let export = Export::from_environment(endpoint).expect("an endpoint").expect("an export");
            let lines = Lines::default();
            let writer = lines.clone();
            let args = LogArgs { log_format, log_level: "info".to_owned() };
            let (subscriber, set_log) = args.subscriber(&export, move || writer.clone()).expect("a filter");
            tracing::subscriber::with_default(subscriber, || {
                let logged = reconcile(&lines);
                assert!(
                    logged.contains("leader changed") && !logged.contains("looked again") && !logged.contains("web"),
                    "{logged}"
                );
                set_log("error").expect("a filter");
                assert_eq!(reconcile(&lines), "");
                assert!(set_log("podium=loud").is_err());
                set_log("info,podium=debug").expect("a filter");
                let logged = reconcile(&lines);
                assert!(
                    logged.contains("leader changed") && logged.contains("looked again") && logged.contains("web"),
                    "{logged}"
                );
            });
            export.end();
        }
    }
}
