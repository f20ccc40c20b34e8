//! `cifar-engine completions`: prints the completions of a shell.

use clap::Args;
use clap_complete::{Shell, generate};

use crate::console;
use crate::error::Result;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine completions bash >> ~/.bash_completion
  cifar-engine completions zsh > \"${fpath[1]}/_cifar-engine\"
  cifar-engine completions powershell >> $PROFILE")]
pub struct Completions {
    /// Which shell.
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Result<()> {
        let mut text = Vec::new();
        generate(self.shell, &mut super::command(), "cifar-engine", &mut text);
        // clap_complete spells a name with a hyphen in two ways, and then finds no subcommand
        // (clap's issue 6421).
        let text = String::from_utf8_lossy(&text).replace("cifar__subcmd__engine", "cifar__engine");
        console::print_own(text.trim_end())
    }
}
