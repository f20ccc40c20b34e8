//! `cifar-engine completions`.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Cli;
use crate::console;
use crate::error::Result;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine completions bash > ~/.local/share/bash-completion/completions/cifar-engine
  cifar-engine completions zsh > \"${fpath[1]}/_cifar-engine\"
  cifar-engine completions fish > ~/.config/fish/completions/cifar-engine.fish")]
pub struct Completions {
    /// Which shell.
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Result<()> {
        let mut text = Vec::new();
        generate(self.shell, &mut Cli::command(), "cifar-engine", &mut text);
        console::print(String::from_utf8_lossy(&text).trim_end())
    }
}
