//! Completions and manual pages, made from the arguments.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;

use crate::arguments::Arguments;
use crate::failure::Failure;

/// Prints the completions of a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "vfiomuxctl", &mut script);
    io::stdout().write_all(&script).map_err(Failure::Output)
}

/// Prints the manual page, or writes all of them, one a verb, into a directory.
pub(crate) fn manual(directory: Option<&Path>) -> Result<(), Failure> {
    match directory {
        Some(directory) => fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory)),
        None => clap_mangen::Man::new(Arguments::command()).render(&mut io::stdout()),
    }
    .map_err(Failure::Output)
}
