use std::io::{self, IsTerminal};

use anstyle::Style;

/// Colours, where they are seen and wanted.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    /// For standard output: on a terminal, unless `NO_COLOR` is set (no-color.org).
    #[must_use]
    pub fn for_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: io::stdout().is_terminal() && !unwanted }
    }

    /// Without any.
    #[must_use]
    pub const fn plain() -> Self {
        Self { colour: false }
    }

    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}
