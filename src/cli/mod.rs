//! The command line: one file a subcommand.
//!
//! Results go to standard output, everything else to standard error.

mod begun;
mod bench;
pub mod compare;
mod completions;
mod contact;
mod data;
mod device;
mod devices;
mod doctor;
mod evaluate;
mod examine;
mod explain;
mod export;
pub mod finetune;
#[cfg(feature = "gpu")]
mod gpu;
mod headings;
mod heat_maps;
mod inspect;
mod libraries;
mod loading;
mod lr_find;
mod man;
mod options;
mod plan;
pub mod predict;
mod progress;
mod relabel;
mod replay;
mod resume;
mod settings;
mod signals;
mod summary;
mod system;
mod table;
mod team;
mod trace;
mod train;
mod values;
mod variables;
mod verify;
mod watching;
mod which_model;
mod why_nan;
mod workload;

use std::io::Write;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::console::{self, Level};
use crate::error::{Error, Result, path_text};
use signals::{STOP, stopped};

/// Trains image classifiers on CIFAR-10, or on your own images, on any GPU or CPU.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Print nothing but results, warnings and errors.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// Print more about what is done.
    #[arg(long, short, global = true)]
    verbose: bool,
}

impl Cli {
    fn level(&self) -> Level {
        match (self.quiet, self.verbose) {
            (true, _) => Level::Quiet,
            (_, true) => Level::Verbose,
            _ => Level::Normal,
        }
    }

    fn run(self) -> Result<()> {
        console::set_level(self.level());
        if self.level() == Level::Verbose {
            libraries::listen();
        }
        if let Err(error) = signals::listen() {
            console::note(format_args!("warning: Ctrl-C will not save: {error}"));
        }
        match self.command {
            Command::Data(data) => data.run(),
            Command::Train(train) => train.run(),
            Command::Finetune(finetune) => finetune.run(),
            Command::Resume(resume) => resume.run(),
            Command::Evaluate(evaluate) => evaluate.run(),
            Command::Predict(predict) => predict.run(),
            Command::LrFind(lr_find) => lr_find.run(),
            Command::Compare(compare) => compare.run(),
            Command::Completions(completions) => completions.run(),
            Command::Man(man) => man.run(),
            Command::Summary(summary) => summary.run(),
            Command::Plan(plan) => plan.run(),
            Command::Trace(trace) => trace.run(),
            Command::Inspect(inspect) => inspect.run(),
            Command::Verify(verify) => verify.run(),
            Command::Replay(replay) => replay.run(),
            Command::WhyNan(why_nan) => why_nan.run(),
            Command::Explain(explain) => explain.run(),
            Command::Export(export) => export.run(),
            Command::Bench(bench) => bench.run(),
            Command::Devices(devices) => devices.run(),
            Command::Doctor(doctor) => doctor.run(),
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Look at images before a training: classes, sizes, what is broken or there twice.
    Data(data::Data),
    /// Train a model from scratch.
    Train(train::Train),
    /// Train a MobileNet that knows ImageNet on other images.
    Finetune(finetune::FinetuneCommand),
    /// Go on with a training or a fine-tuning that was interrupted.
    Resume(resume::Resume),
    /// Measure the accuracy of trained weights.
    Evaluate(evaluate::Evaluate),
    /// Name what is on images.
    Predict(predict::Predict),
    LrFind(lr_find::LrFind),
    /// Put runs side by side.
    Compare(compare::Compare),
    /// Print a model's layers, parameters and memory.
    Summary(summary::Summary),
    /// Show the steps of a training or a prediction, their memory, and what rules did.
    Plan(plan::PlanCommand),
    /// Show how long each step of a training or a prediction takes, beside what the machine can do.
    Trace(trace::TraceCommand),
    /// Look inside a trained model.
    Inspect(inspect::Inspect),
    /// Compute a run again, and compare it bit for bit.
    Verify(verify::Verify),
    /// Go back to a step of a training, and show every tensor in it.
    Replay(replay::Replay),
    /// Tell by which value a training diverged.
    WhyNan(why_nan::WhyNan),
    /// Tell what an op is, from its formula to its kernels.
    Explain(explain::Explain),
    /// Write a trained model as a page that runs and trains it in a browser.
    Export(export::Export),
    /// Time training or inference.
    Bench(bench::Bench),
    /// Print the completions of a shell.
    Completions(completions::Completions),
    /// Print the manual page, or write those of all commands.
    Man(man::Man),
    /// List the devices of this machine.
    Devices(devices::Devices),
    /// Check what a device computes.
    Doctor(doctor::Doctor),
}

/// All options of all subcommands.
fn command() -> clap::Command {
    let command = Cli::command().mut_subcommand("finetune", settings::in_finetune);
    // Whether a number may be negative says whoever reads it, not that there were no such option.
    let command = command.mut_subcommands(|command| {
        command.mut_args(|arg| match arg.get_action().takes_values() {
            true => arg.allow_negative_numbers(true),
            false => arg,
        })
    });
    variables::without_blank(headings::arranged(command.mut_subcommand("lr-find", lr_find::describe)))
}

/// Prints the help or the version that was asked for.
fn print_help(help: &clap::Error) -> Result<()> {
    console::arrived(help.print().and_then(|()| std::io::stdout().flush()))
}

/// Runs the program and returns its exit code: 0 ok, 1 failure, 2 usage, 130 interrupted.
pub fn main() -> ExitCode {
    console::know_options(variables::options(command()));
    let parsed = command().try_get_matches().and_then(|chosen| Ok((Cli::from_arg_matches(&chosen)?, chosen)));
    let result = match parsed {
        Ok((cli, chosen)) => cli.run().map_err(|error| (error, chosen)),
        Err(refusal) if refusal.use_stderr() => {
            let _ = refusal.print(); // where that cannot be said, nothing can
            if let Some(variable) = variables::at_fault(&refusal, command()) {
                console::note(format_args!("The value is that of the variable {variable}."));
            }
            return ExitCode::from(2);
        }
        Err(help) => print_help(&help).map_err(|error| (error, ArgMatches::default())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, chosen)) => {
            let message = console::with_options(&error.to_string());
            if !matches!(error, Error::Interrupted | Error::ReaderLeft) {
                console::note(format_args!("error: {message}"));
            }
            if let Error::Usage(_) = error {
                if let Some(variable) = variables::behind(&message, &chosen, command()) {
                    console::note(format_args!("The value is that of the variable {variable}."));
                }
                if let Some(file) = variables::behind_file(&message, &chosen, command()) {
                    console::note(format_args!("The value is that of the file {}.", path_text(&file)));
                }
            }
            ExitCode::from(error.exit_code())
        }
    }
}
