//! Tables, and lists of named fields, for reports. Pure: text in, text out.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table as Grid};

use super::Page;

/// Rows under a header, columns apart by two spaces.
pub(crate) struct Table(Grid);

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
        Self(grid)
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
        self.0.add_row(cells.map(shown));
    }

    /// The table's lines.
    pub(crate) fn text(mut self) -> String {
        for column in self.0.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = String::new();
        for line in self.0.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
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
