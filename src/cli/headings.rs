//! Under which heading of `--help` an option stands.

use clap::{Arg, Command};

/// Options by heading, under the names of their fields.
const HEADINGS: [(&str, &[&str]); 6] = [
    ("Data", &["data", "validation", "split", "skip_bad", "sample"]),
    (
        "Model",
        &[
            "model",
            "weights",
            "pretrained",
            "labels",
            "image_size",
            "classes",
            "dropout",
            "padding",
            "bn_epsilon",
            "mean",
            "std",
        ],
    ),
    (
        "Training",
        &[
            "recipe",
            "config",
            "resume",
            "epochs",
            "batch_size",
            "rate",
            "schedule",
            "optimizer",
            "weight_decay",
            "label_smoothing",
            "seed",
            "ema",
            "clip",
            "early_stop",
            "plateau",
            "target",
            "unfreeze",
            "head_epochs",
            "head_rate",
            "backbone",
            "fit_head",
            "frozen_statistics",
            "mode",
            "steps",
            "from",
            "to",
        ],
    ),
    ("Augmentation", &["augment", "test_flip"]),
    ("Device", &["device", "threads", "isa"]),
    ("Output", &["out", "report", "format", "top", "sort", "profile", "json", "quiet", "verbose"]),
];

/// Puts every option of a command and its subcommands under its heading.
pub fn arranged(command: Command) -> Command {
    command.mut_args(under_heading).mut_subcommands(arranged)
}

fn under_heading(arg: Arg) -> Arg {
    let holds = |(_, names): &&(&str, &[&str])| names.contains(&arg.get_id().as_str());
    match HEADINGS.iter().find(holds) {
        Some((heading, names)) if !arg.is_positional() => {
            // What all commands have comes last.
            let is_global = arg.is_global_set();
            let arg = arg.help_heading(*heading);
            if is_global { arg.display_order(1000 + names.len()) } else { arg }
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
