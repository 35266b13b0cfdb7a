//! Aligned text, with a little colour where a terminal shows it.

use std::fmt::Write;
use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};

/// Columns that text is set in.
const COLUMNS: usize = 80;

/// What a cell says about the thing it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Head,
    Good,
    Warning,
    Bad,
}

/// Whether to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(bool);

impl Paint {
    /// Colour on a terminal, unless the environment says otherwise (no-color.org).
    pub(crate) fn for_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(std::io::stdout().is_terminal() && !unwanted)
    }

    fn apply(self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Head => Style::new().bold(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Warning => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
        };
        if self.0 { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: printable(text.as_ref()), tone }
    }

    /// The value, or `-` when there is none.
    pub(crate) fn optional(value: Option<impl ToString>) -> Self {
        value.map_or_else(|| Self::from("-"), |value| Self::from(value.to_string()))
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Rows under a head, each column as wide as its widest cell, with notes under a row.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Row>,
    /// Columns whose cells stand to the right.
    right: &'static [usize],
}

#[derive(Debug)]
enum Row {
    Cells(Vec<Cell>),
    Note(String),
}

impl Table {
    pub(crate) fn new(head: &[&str], right: &'static [usize]) -> Self {
        Self { rows: vec![Row::Cells(head.iter().map(|text| Cell::new(text, Tone::Head)).collect())], right }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(Row::Cells(cells.into_iter().collect()));
    }

    /// A line under the last row, set in by the first column's width.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) {
        self.rows.push(Row::Note(printable(text.as_ref())));
    }

    pub(crate) fn text(&self, paint: Paint) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            match row {
                Row::Cells(cells) => self.write_cells(&mut text, cells, &widths, paint),
                Row::Note(note) => {
                    let indent = widths.first().map_or(0, |width| width + 2);
                    for line in wrapped(note, COLUMNS.saturating_sub(indent)) {
                        let _ = writeln!(text, "{:indent$}{line}", "");
                    }
                }
            }
        }
        text
    }

    fn write_cells(&self, text: &mut String, cells: &[Cell], widths: &[usize], paint: Paint) {
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            if column > 0 {
                text.push_str("  ");
            }
            let padding = width - cell.text.chars().count();
            let painted = paint.apply(cell.tone, &cell.text);
            let (before, after) = if self.right.contains(&column) { (padding, 0) } else { (0, padding) };
            let _ = write!(text, "{:before$}{painted}{:after$}", "", "");
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
}

/// Names and values, one a line.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    lines: Vec<(&'static str, Cell)>,
}

impl Facts {
    pub(crate) fn add(&mut self, name: &'static str, value: impl Into<Cell>) {
        self.lines.push((name, value.into()));
    }

    /// Adds a line when there is a value.
    pub(crate) fn add_some(&mut self, name: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value.to_string());
        }
    }

    pub(crate) fn text(&self, paint: Paint) -> String {
        let width = self.lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in &self.lines {
            let mut name = *name;
            for line in wrapped(&value.text, COLUMNS.saturating_sub(width + 2)) {
                let head = paint.apply(Tone::Head, &format!("{name:width$}"));
                let _ = writeln!(text, "{head}  {}", paint.apply(value.tone, &line));
                name = "";
            }
        }
        text
    }
}

/// A text in lines of at most `columns` characters, as far as its words allow.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if used == 0 => line.push_str(word),
            Some(line) if used + 1 + length <= columns => {
                line.push(' ');
                line.push_str(word);
                used += 1;
            }
            _ => {
                lines.push(word.to_owned());
                used = 0;
            }
        }
        used += length;
    }
    lines
}

/// At most `length` characters of a text.
pub(crate) fn shortened(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        None => text.to_owned(),
        Some(_) => text.chars().take(length.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A text from elsewhere, with nothing in it that a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The name that a value has on the wire, for people: without underscores.
pub(crate) fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name.replace('_', " "),
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let mut table = Table::new(&["NAME", "SIZE", "STATE"], &[1]);
        table.row(["disk-a", "256M", "ok"].map(Cell::from));
        table.row([Cell::from("b"), Cell::from("1G"), Cell::optional(None::<u8>)]);
        table.note("held: by none");
        let expected = "\
NAME    SIZE  STATE
disk-a  256M  ok
b         1G  -
        held: by none
";
        assert_eq!(table.text(Paint(false)), expected);
    }

    #[test]
    fn colour_changes_no_alignment() {
        let mut table = Table::new(&["A", "B"], &[]);
        table.row([Cell::new("x", Tone::Bad), Cell::from("y")]);
        let text = table.text(Paint(true));
        assert!(text.contains("\u{1b}[31mx\u{1b}[0m  y"), "{text:?}");
    }

    #[test]
    fn a_terminal_obeys_nothing_that_a_device_says() {
        assert_eq!(Cell::from("evil\u{1b}[2J\n\u{9b}1").text, "evil?[2J??1");
    }

    #[test]
    fn what_is_too_long_goes_on_under_itself() {
        let mut facts = Facts::default();
        facts.add("features", ["VIRTIO_RING_F_EVENT_IDX"; 4].join(" "));
        let (first, second) =
            ("VIRTIO_RING_F_EVENT_IDX ".repeat(2), "VIRTIO_RING_F_EVENT_IDX VIRTIO_RING_F_EVENT_IDX");
        assert_eq!(facts.text(Paint(false)), format!("features  {}\n          {second}\n", first.trim_end()));
        assert_eq!(wrapped("a verylongword b", 4), ["a", "verylongword", "b"]);
    }

    #[test]
    fn long_texts_are_shortened_by_characters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüx", 3), "äö…");
    }
}
