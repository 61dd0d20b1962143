//! Tables, and lists of named fields, for reports. Pure: text in, text out.

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table as Grid, Width};

use super::Page;

/// Spaces between two columns.
const GAP: u16 = 2;

/// Rows under a header, columns apart by two spaces. What is too wide for the terminal is broken between words, and goes
/// beyond it where that does not do: half a name is none.
pub(crate) struct Table {
    grid: Grid,
    /// The longest word of each column.
    longest: Vec<usize>,
}

impl Table {
    /// A table of these columns.
    pub(crate) fn new(page: Page, header: &[&str]) -> Self {
        let mut grid = Grid::new();
        grid.load_style(NOTHING);
        match page.width {
            Some(width) => grid
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width),
            None => grid.set_content_arrangement(ContentArrangement::Disabled),
        };
        grid.set_header(header.iter().copied());
        let longest = header.iter().map(|cell| longest_word(cell)).collect();
        Self { grid, longest }
    }

    /// Adds a row; an empty cell shows as `-`.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let shown = |cell: String| {
            if cell.is_empty() {
                "-".to_owned()
            } else {
                cell
            }
        };
        for (longest, cell) in self.longest.iter_mut().zip(&cells) {
            *longest = longest_word(cell).max(*longest);
        }
        self.grid.add_row(cells.map(shown));
    }

    /// The table's lines.
    pub(crate) fn text(mut self) -> String {
        for (column, longest) in self.grid.column_iter_mut().zip(self.longest) {
            column.set_padding((0, GAP));
            let word = u16::try_from(longest).unwrap_or(u16::MAX);
            let least = Width::Fixed(word.saturating_add(GAP));
            column.set_constraint(ColumnConstraint::LowerBoundary(least));
        }
        let mut text = String::new();
        for line in self.grid.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn longest_word(text: &str) -> usize {
    let lengths = text.split_whitespace().map(|word| word.chars().count());
    lengths.max().unwrap_or_default()
}

/// Named values below each other, for one object.
#[derive(Default)]
pub(crate) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// No field yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a field.
    pub(crate) fn field(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, value.into()));
    }

    /// Adds a field that not every object has.
    pub(crate) fn maybe(&mut self, name: &'static str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    /// The fields' lines; further lines of a value are indented like its first.
    pub(crate) fn text(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in &self.0 {
            let indented = value.replace('\n', &format!("\n{:width$}  ", ""));
            text.push_str(format!("{name:width$}  {indented}").trim_end());
            text.push('\n');
        }
        text
    }
}
