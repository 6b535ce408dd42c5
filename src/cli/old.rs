//! Whether this is called as one of the two sidecars that it replaces.

use std::ffi::OsString;
use std::path::PathBuf;

use super::sidecar::Form;

/// The words of an argument.
pub fn words(argument: OsString) -> Vec<OsString> {
    match argument.to_str() {
        Some(text) => text.split_whitespace().map(OsString::from).collect(),
        None => vec![argument],
    }
}

/// How an old sidecar's pod would have called this: by its options, by its environment, or by the path of its program.
pub fn old_form(arguments: &[OsString], env: impl Fn(&str) -> Option<String>) -> Option<Form> {
    let program = arguments.first().map(PathBuf::from);
    match program.as_ref().and_then(|program| program.file_name()?.to_str()) {
        Some("server") => return Some(Form::Contrib),
        Some("main") => return Some(Form::SupportTools),
        // The plugin of kubectl: whoever types it is a person, who may write options first.
        Some("kubectl-podium") => return None,
        _ => {}
    }
    match arguments.get(1).map(|argument| argument.to_string_lossy()) {
        None => (env("LEASE_NAME").is_some() || env("NAMESPACE").is_some()).then_some(Form::SupportTools),
        Some(first) if ["-h", "--help", "-V", "--version"].contains(&first.as_ref()) => None,
        Some(first) => first.starts_with('-').then_some(Form::Contrib),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_an_old_sidecar_is_one() {
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
        assert_eq!(old_form(&words("podium controller".into()), environment), None);
        assert_eq!(old_form(&words("kubectl-podium".into()), environment), None);
    }
}
