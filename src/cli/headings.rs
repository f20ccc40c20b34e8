//! Under which heading of `--help` an option stands.

use clap::{Arg, Command};

use super::settings::setting;

/// Options that are no settings by heading, under the names of their fields.
const HEADINGS: [(&str, &[&str]); 5] = [
    ("Data", &["split", "sample", "images", "apply", "yes"]),
    ("Model", &["weights", "layers", "ops", "labels", "classes", "padding", "bn_epsilon", "mean", "std"]),
    (
        "Training",
        &["config", "resume", "all", "mode", "unfused", "steps", "from", "to", "epoch", "step", "quick"],
    ),
    ("Device", &["device", "threads", "isa", "no_check"]),
    (
        "Output",
        &[
            "out", "name", "tags", "note", "web", "onnx", "torch", "half", "no_proof", "report", "format",
            "top", "explain", "sort", "diff", "profile", "measure", "html", "json", "quiet", "verbose",
        ],
    ),
];

/// Puts every option of a command and its subcommands under its heading.
pub fn arranged(command: Command) -> Command {
    command.mut_args(under_heading).mut_subcommands(arranged)
}

/// After every option of a heading.
const LAST: usize = 1000;

/// The heading of the option of this name.
fn heading(name: &str) -> Option<&'static str> {
    let other = || HEADINGS.iter().find(|(_, names)| names.contains(&name)).map(|(heading, _)| *heading);
    setting(name).map(|setting| setting.heading).or_else(other)
}

fn under_heading(arg: Arg) -> Arg {
    match heading(arg.get_id().as_str()) {
        Some(heading) if !arg.is_positional() => {
            // What all commands have comes last.
            let is_global = arg.is_global_set();
            let arg = arg.help_heading(heading);
            if is_global { arg.display_order(LAST) } else { arg }
        }
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_option_has_a_heading() {
        for command in crate::cli::command().get_subcommands() {
            for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
                assert!(arg.get_help_heading().is_some(), "{} --{}", command.get_name(), arg.get_id());
            }
        }
    }
}
