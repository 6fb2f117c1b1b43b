//! Tables for people: aligned, cut to the terminal, harmless whatever the cells hold.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::terminal::harmless;

/// Space between columns.
const GAP: usize = 2;
/// A column that gives way keeps at least this much, so that it still tells something.
const SHRUNK_MIN: usize = 12;

/// Rows under headings. Columns that are empty in every row are left out.
#[derive(Debug, Default)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Column {
    title: String,
    numeric: bool,
    room: Room,
}

/// What a column does when the terminal is too narrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Keeps its width: identifiers and states are of no use in part.
    Keeps,
    /// Ends in `…`.
    GivesWay,
    /// Is left out when giving way was not enough, the last such column first.
    Optional,
}

impl Table {
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub(crate) fn column(mut self, title: impl Into<String>, room: Room) -> Self {
        self.columns.push(Column { title: title.into(), numeric: false, room });
        self
    }

    /// A column of numbers, aligned to the right.
    #[must_use]
    pub(crate) fn numbers(mut self, title: impl Into<String>) -> Self {
        self.columns.push(Column { title: title.into(), numeric: true, room: Room::Keeps });
        self
    }

    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut cells: Vec<String> = cells.into_iter().map(|cell| harmless(cell.as_ref())).collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
    }

    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines, each ended; cut to `terminal` columns when there is a terminal.
    #[must_use]
    pub(crate) fn render(&self, terminal: Option<usize>) -> String {
        let layout = self.layout(terminal);
        let mut out = String::new();
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_uppercase()).collect();
        self.line(&mut out, &layout, &titles);
        for row in &self.rows {
            self.line(&mut out, &layout, row);
        }
        out
    }

    fn line(&self, out: &mut String, layout: &[(usize, usize)], cells: &[String]) {
        let mut line = String::new();
        for (position, &(column, width)) in layout.iter().enumerate() {
            if position > 0 {
                line.push_str(&" ".repeat(GAP));
            }
            let cell = cut(&cells[column], width);
            let pad = " ".repeat(width.saturating_sub(cell.width()));
            let (before, after) =
                if self.columns[column].numeric { (pad, String::new()) } else { (String::new(), pad) };
            line.push_str(&before);
            line.push_str(&cell);
            line.push_str(&after);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }

    /// Which columns are shown, and how wide.
    fn layout(&self, terminal: Option<usize>) -> Vec<(usize, usize)> {
        let natural = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
            cells.max(self.columns[column].title.width())
        };
        let told = |column: &usize| self.rows.is_empty() || self.rows.iter().any(|row| !row[*column].is_empty());
        let mut layout: Vec<(usize, usize)> =
            (0..self.columns.len()).filter(told).map(|column| (column, natural(column))).collect();
        let Some(terminal) = terminal else { return layout };
        while shortage(&layout, terminal) > self.slack(&layout) {
            let Some(last) = layout.iter().rposition(|(column, _)| self.columns[*column].room == Room::Optional) else {
                break;
            };
            layout.remove(last);
        }
        self.shrink(&mut layout, terminal);
        layout
    }

    /// How much the columns of this layout can give way.
    fn slack(&self, layout: &[(usize, usize)]) -> usize {
        layout.iter().filter(|(column, _)| self.gives_way(*column)).map(|(_, w)| w.saturating_sub(SHRUNK_MIN)).sum()
    }

    /// Takes what is missing from the widest columns first, so that narrow ones stay whole.
    fn shrink(&self, layout: &mut [(usize, usize)], terminal: usize) {
        for _ in 0..shortage(layout, terminal) {
            let widest = layout
                .iter_mut()
                .filter(|(column, width)| self.gives_way(*column) && *width > SHRUNK_MIN)
                .max_by_key(|(_, width)| *width);
            match widest {
                Some((_, width)) => *width -= 1,
                None => return,
            }
        }
    }

    fn gives_way(&self, column: usize) -> bool {
        self.columns[column].room != Room::Keeps
    }
}

fn shortage(layout: &[(usize, usize)], terminal: usize) -> usize {
    let widths: usize = layout.iter().map(|(_, width)| width).sum();
    (widths + GAP * layout.len().saturating_sub(1)).saturating_sub(terminal)
}

/// The text in at most `width` columns; `…` stands for what is missing.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        out.push(c);
    }
    // A space before the sign would look as if a word were missing.
    out.truncate(out.trim_end().len());
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new()
            .column("source", Room::Keeps)
            .column("title", Room::GivesWay)
            .column("status", Room::Optional)
            .numbers("rows")
            .column("note", Room::GivesWay);
        table.row(["local", "Order new cables for the lab", "open", "7", ""]);
        table.row(["work", "Review", "in_progress", "12", ""]);
        table
    }

    #[test]
    fn a_table_is_aligned_and_leaves_empty_columns_out() {
        let lines = [
            "SOURCE  TITLE                         STATUS       ROWS",
            "local   Order new cables for the lab  open            7",
            "work    Review                        in_progress    12",
        ];
        assert_eq!(sample().render(None), lines.join("\n") + "\n");
        assert_eq!(sample().render(Some(200)), sample().render(None));
    }

    #[test]
    fn a_narrow_terminal_cuts_the_widest_column_and_then_leaves_optional_ones_out() {
        let cut = sample().render(Some(45));
        assert_eq!(cut.lines().nth(1), Some("local   Order new cables…   open            7"), "{cut}");
        assert!(cut.lines().all(|line| line.width() <= 45), "{cut}");
        let narrow = sample().render(Some(30));
        assert_eq!(narrow.lines().nth(1), Some("local   Order new cable…     7"), "{narrow}");
    }

    #[test]
    fn wide_characters_count_twice_and_controls_not_at_all() {
        assert_eq!(cut("東京東京", 5), "東京…");
        let mut table = Table::new().column("title", Room::GivesWay);
        table.row(["a\u{1b}[2Jb\nc"]);
        assert_eq!(table.render(None), "TITLE\na\u{fffd}[2Jb c\n");
    }
}
