//! Detects the command lines of the two sidecars that Podium replaces.

use std::ffi::OsString;
use std::path::PathBuf;

use super::sidecar::Form;

/// Splits an argument into words.
pub fn words(argument: OsString) -> Vec<OsString> {
    match argument.to_str() {
        Some(text) => text.split_whitespace().map(OsString::from).collect(),
        None => vec![argument],
    }
}

/// Returns the old sidecar that is meant: by its options, its environment, or the path of its program.
pub fn old_form(arguments: &[OsString], env: impl Fn(&str) -> Option<String>) -> Option<Form> {
    let program = arguments.first().map(PathBuf::from);
    match program.as_ref().and_then(|program| program.file_name()?.to_str()) {
        Some("server") => return Some(Form::Contrib),
        Some("main") => return Some(Form::SupportTools),
        // The kubectl plugin takes options before the subcommand.
        Some("kubectl-podium") => return None,
        _ => {}
    }
    match arguments.get(1).map(|argument| argument.to_string_lossy()) {
        None => env("LEASE_NAME").is_some().then_some(Form::SupportTools),
        Some(first) if ["-h", "--help", "-V", "--version"].contains(&first.as_ref()) => None,
        Some(first) => first.starts_with('-').then_some(Form::Contrib),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_command_lines_of_old_sidecars_are_detected() {
        let form = |line: &str| old_form(&words(line.into()), |_| None);
        for line in ["podium", "podium controller", "podium --help", "podium -V", "podium sidecar --election x"] {
            assert_eq!(form(line), None, "{line}");
        }
        for line in ["/usr/bin/kubectl-podium", "kubectl-podium --namespaces=x cleanup", "kubectl-podium cleanup"] {
            assert_eq!(form(line), None, "{line}");
        }
        assert_eq!(form("/server"), Some(Form::Contrib));
        assert_eq!(form("podium --election=x"), Some(Form::Contrib));
        let environment = |name: &str| ["LEASE_NAME", "NAMESPACE"].contains(&name).then(|| "x".to_owned());
        assert_eq!(old_form(&words("podium".into()), environment), Some(Form::SupportTools));
        let namespace_alone = |name: &str| (name == "NAMESPACE").then(|| "x".to_owned());
        assert_eq!(old_form(&words("podium".into()), namespace_alone), None);
        assert_eq!(old_form(&words("podium controller".into()), environment), None);
        assert_eq!(old_form(&words("kubectl-podium".into()), environment), None);
    }
}
