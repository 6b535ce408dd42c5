//! Data goes to stdout, everything else to stderr. There is no color.

use std::io::{self, Write};

use serde::Serialize;

use super::failure::Failure;

/// The form of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Text for people.
    #[default]
    Text,
    /// More columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// `resource/name`, one on each line.
    Name,
}

/// Prints data to stdout.
///
/// # Errors
/// [`Failure::Closed`] if the reader closed the pipe.
pub fn data(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    Ok(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())?)
}

/// Prints a line to stderr.
pub fn talk(text: &str) {
    // Nobody reads it then.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints a warning to stderr.
pub fn warn(text: &str) {
    talk(&format!("Warning: {text}"));
}

/// Formats a value as JSON, or as YAML.
///
/// # Errors
/// It cannot be formatted.
pub fn document(value: &impl Serialize, output: Output) -> Result<String, Failure> {
    let failed = |error: String| Failure::Failed(format!("failed to format the output: {error}"));
    match output {
        Output::Yaml => serde_yaml::to_string(value).map_err(|error| failed(error.to_string())),
        _ => serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| failed(error.to_string())),
    }
}
