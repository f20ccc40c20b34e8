//! Processes that a launcher such as `mpirun` has started to train together.

use std::thread::sleep;
use std::time::Duration;

use crate::console::{self, Level};
use crate::error::{Error, Result};
use crate::team::Team;
use crate::text::counted;
use crate::train::settings::{Choices, Settings};

/// Shards of a step where a launcher has started the processes, and none are chosen: so many that
/// any usual number of processes makes the same run.
const USUAL_SHARDS: usize = 8;

/// Variables by which launchers tell a process that they have started it: Open MPI's, MPICH's and
/// Intel's, and those of SLURM with either.
const LAUNCHED: [&str; 4] = ["OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK"];

/// Does the work of a command in all processes that were started together. The first speaks for
/// all; an error of any of them ends all.
///
/// # Errors
/// Those of the work, and if the processes cannot work together.
pub fn together(command: &str, work: impl FnOnce(&Team) -> Result<()>) -> Result<()> {
    let team = join()?;
    if !team.is_first() {
        console::set_level(Level::Silent);
    }
    let outcome = team.check_alike(&[("command", command.into())]).and_then(|()| work(&team));
    match &outcome {
        Err(Error::Interrupted) if team.has_agreed_to_stop() => {}
        Err(error) if !matches!(error, Error::ReaderLeft) && team.size() > 1 => end_all(&team, error),
        _ => {}
    }
    outcome
}

/// Ends all processes after an error of this one.
fn end_all(team: &Team, error: &Error) {
    // Most errors are the same in all processes: then the first is faster, and ends this one.
    const FIRST_SPEAKS: Duration = Duration::from_secs(2);
    let interrupted = matches!(error, Error::Interrupted);
    if team.is_first() && !interrupted {
        console::note(format_args!("error: {error}"));
    } else if !interrupted {
        sleep(FIRST_SPEAKS);
        console::set_level(Level::Quiet);
        console::note(format_args!("error: {}: {error}", team.name()));
    }
    team.abort(error.exit_code());
}

/// Says who makes a run, where a launcher has started them.
///
/// # Errors
/// If a process is gone.
pub fn tell(team: &Team, settings: &Settings) -> Result<()> {
    if !team.is_linked() {
        return Ok(());
    }
    let (processes, hosts) = (counted(team.size(), "process"), team.hosts()?.join(", "));
    let (shards, images) = (counted(settings.shards, "shard"), counted(settings.shard_size(), "image"));
    console::info(format_args!("{processes} on {hosts}; {shards} of {images} a step"));
    Ok(())
}

/// Shards where none are chosen, if a launcher has started this process.
pub fn usual_shards(team: &Team) -> Option<usize> {
    team.is_linked().then_some(USUAL_SHARDS)
}

/// The choices, with the usual shards where a launcher has started this process.
pub fn with_shards(choices: Choices, team: &Team) -> Choices {
    Choices { shards: choices.shards.or(usual_shards(team)), ..choices }
}

/// The processes that a launcher has started; one alone without any.
fn join() -> Result<Team> {
    let is_set = |name: &&str| std::env::var_os(name).is_some();
    match LAUNCHED.iter().find(|name| is_set(name)) {
        Some(variable) => join_launched(variable),
        None => apart().map(|()| Team::default()),
    }
}

/// Nothing, unless SLURM has started several processes that know nothing of each other.
fn apart() -> Result<()> {
    let tasks = std::env::var("SLURM_STEP_NUM_TASKS").ok().and_then(|tasks| tasks.parse().ok());
    if tasks.is_none_or(|tasks: usize| tasks <= 1) {
        return Ok(());
    }
    let problem = "SLURM has started several processes without MPI, each of which would train by itself";
    Err(Error::Usage(format!("{problem}; start them by `srun --mpi=pmix`, or `srun --mpi=pmi2`")))
}

#[cfg(feature = "mpi")]
fn join_launched(_variable: &str) -> Result<Team> {
    crate::team::mpi::join()
}

/// One process alone: this build knows no others.
#[cfg(not(feature = "mpi"))]
fn join_launched(variable: &str) -> Result<Team> {
    let size = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].iter().find_map(|name| std::env::var(name).ok());
    if size.is_some_and(|size| size.trim() == "1") {
        return Ok(Team::default());
    }
    let problem = "several processes were started, each of which would train by itself";
    let advice = "build the program with `--features mpi` on a machine with Open MPI or MPICH";
    Err(Error::Usage(format!("{problem} ({variable} is set); {advice}, or start one")))
}
