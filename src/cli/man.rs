//! `cifar-engine man`: the manual pages, as `man` reads them.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use clap_mangen::Man as Page;

use crate::console;
use crate::error::{Error, Result, path_text};
use crate::files::{advice, write_atomic};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine man | man -l -                     the page of the program
  cifar-engine man --out ~/.local/share/man/man1  all pages; then: man cifar-engine-train")]
pub struct Man {
    /// Folder for the pages of the program and of every command [default: the program's is printed]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    pub fn run(self) -> Result<()> {
        let mut command = super::command().disable_help_subcommand(true);
        command.build();
        let Some(folder) = self.out else {
            return console::print_own(String::from_utf8_lossy(&text(command)?).trim_end());
        };
        let failed =
            |error: std::io::Error| Error::file(&folder, format!("cannot be a folder: {}", advice(&error)));
        fs::create_dir_all(&folder).map_err(failed)?;
        let commands: Vec<clap::Command> = command.get_subcommands().cloned().collect();
        let count = 1 + commands.len();
        for command in std::iter::once(command).chain(commands) {
            let name = command.get_display_name().unwrap_or_else(|| command.get_name());
            let (path, text) = (folder.join(format!("{name}.1")), text(command)?);
            write_atomic(path, |file| file.write_all(&text))?;
        }
        console::print(format_args!("{}: {count} pages", path_text(&folder)))
    }
}

/// A command's page.
fn text(command: clap::Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    // Titles are in capitals, as those of other programs.
    let title = command.get_display_name().unwrap_or_else(|| command.get_name()).to_uppercase();
    let rendered = Page::new(command).title(title).render(&mut text);
    rendered.map_err(|error| Error::Failed(format!("the page cannot be made: {error}")))?;
    Ok(text)
}
