//! `docs/reference/cli.md` is what `podium --help` says.

use std::fmt::Write;
use std::{env, fs};

use clap::{Arg, Command, CommandFactory};

use super::Cli;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/cli.md");

#[test]
fn command_line_reference_is_current() {
    let page = page(Cli::command());
    if env::var_os("GENERATE").is_some() {
        fs::write(PAGE, &page).expect("a writable page");
    }
    let committed = fs::read_to_string(PAGE).unwrap_or_default();
    assert!(committed == page, "docs/reference/cli.md is not what the options say: run `make generate`");
}

fn page(mut command: Command) -> String {
    command.build();
    let commands: Vec<&Command> =
        command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help").collect();
    let mut page = String::from(INTRODUCTION);
    for command in &commands {
        let name = command.get_name();
        let _ = writeln!(page, "| [`podium {name}`](#podium-{name}) | {} |", about(command));
    }
    let sidecar = command.find_subcommand("sidecar").map(options_of).unwrap_or_default();
    for command in commands {
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        let _ = writeln!(page, "\n## podium {}\n\n```\n{usage}\n```", command.get_name());
        let mut options = options_of(command);
        if command.get_name() == "run" {
            let shared: Vec<String> = sidecar.iter().copied().map(row).collect();
            options.retain(|option| !shared.contains(&row(option)));
            page += "\nAll options of [`podium sidecar`](#podium-sidecar), and these:\n";
        }
        if options.is_empty() {
            continue;
        }
        page += "\n| option | environment variable | default | description |\n|---|---|---|---|\n";
        options.sort_by_key(|option| option.is_positional());
        options.into_iter().for_each(|option| page += &row(option));
    }
    page
}

fn options_of(command: &Command) -> Vec<&Arg> {
    command.get_arguments().filter(|option| is_listed(option)).collect()
}

fn is_listed(option: &Arg) -> bool {
    !option.is_hide_set() && !["help", "version"].contains(&option.get_id().as_str())
}

fn row(option: &Arg) -> String {
    let value = option.get_value_names().map(|names| names[0].to_string()).filter(|_| option.get_action().takes_values());
    let long = option.get_long().map(|long| format!("--{long}"));
    let short = option.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let name = match (long, value) {
        (Some(long), Some(value)) if option.is_require_equals_set() => format!("{short}{long}[=<{value}>]"),
        (Some(long), Some(value)) => format!("{short}{long} <{value}>"),
        (Some(long), None) => format!("{short}{long}"),
        (None, value) => format!("<{}>", value.unwrap_or_default()),
    };
    let name = name.replace('|', "\\|");
    let environment = option.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
    let defaults: Vec<_> = option.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = if defaults.is_empty() || !option.get_action().takes_values() {
        String::new()
    } else {
        format!("`{}`", defaults.join(" "))
    };
    let help = option.get_long_help().or_else(|| option.get_help()).map(|help| cell(&help.to_string())).unwrap_or_default();
    let values: Vec<String> = match option.get_possible_values().as_slice() {
        [] => Vec::new(),
        values => {
            values.iter().filter(|value| !value.is_hide_set()).map(|value| format!("`{}`", value.get_name())).collect()
        }
    };
    let values = if values.is_empty() || values == ["`true`", "`false`"] {
        String::new()
    } else {
        format!(" Values: {}.", values.join(", "))
    };
    let required = if option.is_required_set() { " Required." } else { "" };
    let ending = if help.ends_with(['.', ')']) { "" } else { "." };
    format!("| `{name}` | {environment} | {default} | {help}{ending}{values}{required} |\n")
}

fn about(command: &Command) -> String {
    command.get_about().map(|about| cell(&about.to_string())).unwrap_or_default()
}

/// Text in a table, where a bar would end the cell and an angle bracket would begin HTML.
fn cell(text: &str) -> String {
    let code = |(index, part): (usize, &str)| if index % 2 == 1 { format!("`{part}`") } else { part.replace('<', "\\<") };
    let text: String = text.split('`').enumerate().map(code).collect();
    text.replace('|', "\\|").replace('\n', " ")
}

const INTRODUCTION: &str = "\
# Command line

<!-- Generated from the options by `make generate`. -->

`podium --help` and `podium COMMAND --help` print the same text. A command-line option takes
precedence over its environment variable. Durations have a unit, such as `15s`, `500ms` or `1m30s`.

Called like one of the two old sidecars, without a subcommand, `podium` behaves like it: see
[Drop-in for the old sidecars](sidecar.md#drop-in-for-the-old-sidecars).
The program answers as a kubectl plugin if it is in `PATH` under the name `kubectl-podium`.

| command | description |
|---|---|
";
