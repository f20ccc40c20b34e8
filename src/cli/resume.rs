//! `cifar-engine resume`: goes on with a run, whichever command began it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::contact::ContactOptions;
use super::device::DeviceOptions;
use super::finetune::FinetuneCommand;
use super::options::{AboutOptions, count};
use super::team::together;
use super::train::{Train, quoted};
use crate::console;
use crate::error::{Error, Result};
use crate::team::Team;
use crate::text::counted;
use crate::train::run_folder::RunFolder;
use crate::train::settings::{Choices, Settings};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine resume runs/mine                go on where it was interrupted
  cifar-engine resume runs/mine --epochs 40    only with --schedule constant
  cifar-engine resume runs/mine --data moved/  its images lie elsewhere now
  cifar-engine resume runs/mine --name small   and call it so")]
pub struct Resume {
    /// The run's folder.
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// Where the images lie now [default: where they were].
    #[arg(long, value_name = "DATA")]
    data: Option<String>,

    /// Make a run with a constant rate so long.
    #[arg(long, value_name = "N", value_parser = count)]
    epochs: Option<usize>,

    /// Where the weights that a fine-tuning began with lie now [default: where they were].
    #[arg(long, value_name = "PATH")]
    pretrained: Option<String>,

    #[command(flatten)]
    about: AboutOptions,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,

    #[command(flatten)]
    contact: ContactOptions,
}

impl Resume {
    pub fn run(self) -> Result<()> {
        let Resume { run, data, epochs, pretrained, about, json, device, contact } = self;
        let choices = Choices { data, epochs, ..Choices::default() };
        together("resume", |team| {
            let command = || Ok(RunFolder::settings(&run)?.command().into());
            match (team.from_first(command)?.as_slice(), pretrained) {
                (b"finetune", pretrained) => {
                    let options = (about, json, device, contact);
                    FinetuneCommand::resuming(run, choices, pretrained, options).run_in(team)
                }
                (_, None) => Train::resuming(run, choices, (about, json, device, contact)).run_in(team),
                _ => {
                    Err(Error::Usage("--pretrained is for a fine-tuning; this run was begun by train".into()))
                }
            }
        })
    }
}

/// A run that was begun before, for all processes of a team, and its settings.
pub fn reopened(team: &Team, path: &Path) -> Result<(RunFolder, Settings)> {
    let run = RunFolder::of_team(team, || Ok(RunFolder::open(path.to_path_buf())?.0))?;
    let settings = RunFolder::settings(run.path())?;
    if team.size() > settings.shards {
        let problem = format!("was begun with --shards {}, which stay as they are", settings.shards);
        let advice = format!("go on with it in {} at most", counted(settings.shards, "process"));
        return Err(Error::file(path, format!("{problem}; {advice}")));
    }
    Ok((run, settings))
}

/// Refuses a run that another command began: on it, each of them would do damage.
pub fn check_begun_by(command: &str, run: &Path) -> Result<()> {
    let begun_by = RunFolder::settings(run)?.command();
    if command == begun_by {
        return Ok(());
    }
    let folder = quoted(&run.to_string_lossy());
    Err(Error::file(run, format!("was begun by {begun_by}; go on with: cifar-engine resume {folder}")))
}

/// Says what an interrupted run can be continued with.
pub fn tell_interrupted(run: &RunFolder) {
    if run.has_saved() {
        let folder = quoted(&run.path().to_string_lossy());
        console::note(format_args!("interrupted, saved; continue with: cifar-engine resume {folder}"));
    } else {
        console::note("interrupted before anything was saved");
    }
}
