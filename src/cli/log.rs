//! What is logged, and how.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use podium::controller::SetLog;
#[cfg(feature = "otlp")]
use podium::traces::Export;
#[cfg(feature = "otlp")]
use tracing::warn;
use tracing_subscriber::EnvFilter;
#[cfg(feature = "otlp")]
use tracing_subscriber::{fmt, layer::Layer, layer::SubscriberExt, reload, util::SubscriberInitExt};

#[derive(Clone, Debug, Default, Args)]
pub struct LogArgs {
    /// How log lines look.
    #[arg(long, env = "PODIUM_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, or directives such as `podium=debug,kube_client=debug`.
    #[arg(long, env = "PODIUM_LOG", default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogArgs {
    /// Logs to stderr from now on. Returns what changes what is logged.
    ///
    /// # Errors
    /// Directives that are not understood.
    pub fn begin(self) -> Result<SetLog, String> {
        let Self { log_format, log } = self;
        let begins = filter(&log).map_err(|error| format!("--log {log:?} is not understood: {error}"))?;
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

    /// As [`LogArgs::begin`], and exports traces if the environment asks for it. What is exported does not depend on what is
    /// logged, so each has a filter of its own.
    ///
    /// # Errors
    /// Directives that are not understood. An endpoint that is not is only said: it is not needed to elect.
    #[cfg(feature = "otlp")]
    pub fn begin_exporting(self) -> Result<(SetLog, Option<Export>), String> {
        let export = match Export::from_environment(|name| std::env::var(name).ok()) {
            Ok(Some(export)) => export,
            Ok(None) => return Ok((self.begin()?, None)),
            Err(why) => {
                let set_log = self.begin()?;
                warn!("traces are not exported: {why}");
                return Ok((set_log, None));
            }
        };
        let Self { log_format, log } = self;
        let begins = filter(&log).map_err(|error| format!("--log {log:?} is not understood: {error}"))?;
        let (begins, handle) = reload::Layer::new(begins);
        let lines = fmt::layer().with_writer(io::stderr);
        let lines = match log_format {
            LogFormat::Text => lines.with_target(false).with_ansi(io::stderr().is_terminal()).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(lines.with_filter(begins)).with(export.layer()).init();
        let set_log = move |log: &str| handle.reload(filter(log)?).map_err(|error| error.to_string());
        Ok((Arc::new(set_log), Some(export)))
    }
}

/// What goes wrong with requests is said by Podium, once and with the remedy; the client would say it again.
fn filter(log: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(format!("kube_client=off,kube_runtime=off,{log}")).map_err(|error| error.to_string())
}
