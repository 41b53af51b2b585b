//! The report for a terminal.

use std::fmt::Write as _;

use super::report::Report;
use super::rows::{self, Table};

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for measured in &report.measured {
        line(&mut text, &format!("{:<8} {}", measured.name, measured.url));
    }
    line(&mut text, &report.settings);
    for table in rows::tables(report) {
        text.push('\n');
        render_table(&mut text, &table);
    }
    if let Some(untold) = rows::untold(report) {
        line(&mut text, &format!("\n{untold}"));
    }
    if let Some(tokens) = rows::tokens(report) {
        line(&mut text, &format!("\ntokens: {tokens}"));
    }
    if !report.notes.is_empty() {
        text.push('\n');
    }
    for note in &report.notes {
        line(&mut text, &format!("- {note}"));
    }
    text
}

fn line(text: &mut String, content: &str) {
    // Writing to a string cannot fail.
    let _written = writeln!(text, "{content}");
}

fn render_table(text: &mut String, table: &Table) {
    if !table.title.is_empty() {
        line(text, &table.title);
    }
    let head = (String::new(), table.columns.clone());
    let all = || std::iter::once(&head).chain(&table.rows);
    let first = all().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table.columns.len())
        .map(|column| {
            all().filter_map(|(_, cells)| Some(cells.get(column)?.chars().count())).max().unwrap_or(0)
        })
        .collect();
    for (name, cells) in all() {
        let mut row = format!("  {name:<first$}");
        for (cell, width) in cells.iter().zip(&widths) {
            let _written = write!(row, "  {cell:>width$}");
        }
        line(text, row.trim_end());
    }
}
