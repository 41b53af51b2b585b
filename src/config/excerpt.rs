//! The line of a problem as it is shown: without secrets, without control characters, not too long.

use std::cell::RefCell;
use std::ops::Range;

/// A range of bytes in the text of the file.
pub(super) type Span = Range<usize>;

/// The text of a file, and which parts of it are never shown.
pub(super) struct Source<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
    hidden: RefCell<Vec<Span>>,
}

/// A line as it is shown, and where its caret stands. Places are counted in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) line: String,
    pub(super) caret_start: usize,
    pub(super) caret_width: usize,
}

/// What is shown in place of a secret, whatever its length.
const HIDDEN: &str = "***";
/// A longer line is cut to this many characters around its caret.
const MAX_LINE: usize = 120;
/// How much of a cut line is shown in front of its caret, in characters.
const LEAD: usize = 40;
const BYTE_ORDER_MARK: char = '\u{feff}';

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let first = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 };
        let line_starts =
            std::iter::once(first).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, line_starts, hidden: RefCell::new(Vec::new()) }
    }

    /// The whole text.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// What the file says there, literally.
    pub(super) fn slice(&self, span: &Span) -> &'a str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// Marks a part that is never shown.
    pub(super) fn hide(&self, span: Span) {
        self.hidden.borrow_mut().push(span);
    }

    /// Line and column of a byte, both from 1. Columns count characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let (line, start) = self.line_at(offset);
        (line, self.slice(&(start..offset.max(start))).chars().count() + 1)
    }

    /// The line in which a span begins; nothing when that line is empty.
    pub(super) fn excerpt(&self, span: &Span) -> Option<Excerpt> {
        let (_, start) = self.line_at(span.start);
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim().is_empty() {
            return None;
        }
        let cells = self.cells(line, start);
        let caret_start = cells.iter().take_while(|(offset, _)| *offset < span.start).count();
        let caret_end = cells.iter().take_while(|(offset, _)| *offset < span.end).count();
        Some(cut(&cells, caret_start, caret_end.saturating_sub(caret_start).max(1)))
    }

    /// The number of the line that holds a byte, from 1, and where it starts.
    fn line_at(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        (line, self.line_starts.get(line - 1).copied().unwrap_or_default())
    }

    /// The characters that are shown for a line, each with the byte that it stands for.
    fn cells(&self, line: &str, start: usize) -> Vec<(usize, char)> {
        let end = start + line.len();
        let mut hidden: Vec<Span> =
            private_parts(line).map(|span| span.start + start..span.end + start).collect();
        hidden
            .extend(self.hidden.borrow().iter().filter(|span| span.start < end && span.end > start).cloned());
        let mut cells = Vec::with_capacity(line.len());
        let mut within = false;
        for (at, letter) in line.char_indices() {
            let offset = start + at;
            let was_within = within;
            within = hidden.iter().any(|span| span.contains(&offset));
            match letter {
                _ if within && was_within => {}
                _ if within => cells.extend(HIDDEN.chars().map(|star| (offset, star))),
                '\t' => cells.extend([(offset, ' '); 4]),
                letter if is_deceptive(letter) => cells.push((offset, char::REPLACEMENT_CHARACTER)),
                letter => cells.push((offset, letter)),
            }
        }
        cells
    }
}

/// A message as it may be shown: without user, password and query of the URLs in it, and without control characters.
pub(super) fn presentable(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut from = 0;
    for span in private_parts(message) {
        if span.start < from {
            continue;
        }
        shown.push_str(message.get(from..span.start).unwrap_or_default());
        shown.push_str(HIDDEN);
        from = span.end;
    }
    shown.push_str(message.get(from..).unwrap_or_default());
    shown.replace(is_deceptive, "\u{fffd}")
}

/// What is private in URLs: user and password, between `://` and the last `@`, and the query. A URL goes on to the quote
/// that it began with, for a password may hold anything else.
fn private_parts(line: &str) -> impl Iterator<Item = Span> + '_ {
    line.match_indices("://").flat_map(|(at, separator)| {
        let start = at + separator.len();
        let before = line.get(..at).unwrap_or_default();
        let quote = before.chars().rev().find(|letter| ['"', '\''].contains(letter));
        let rest = line.get(start..).unwrap_or_default();
        let url = quote.and_then(|quote| rest.split(quote).next()).unwrap_or(rest);
        let user = url.rfind('@').map(|end| start..start + end);
        let from = url.rfind('@').unwrap_or(0);
        let query = url.get(from..).and_then(|rest| rest.find('?'));
        let query = query.map(|mark| start + from + mark + 1..start + url.len());
        [user, query].into_iter().flatten().filter(|span| !span.is_empty())
    })
}

/// Control characters, and those that change the order in which a terminal shows the others.
fn is_deceptive(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | BYTE_ORDER_MARK)
}

fn cut(cells: &[(usize, char)], caret_start: usize, caret_width: usize) -> Excerpt {
    if cells.len() <= MAX_LINE {
        let line = cells.iter().map(|(_, letter)| letter).collect();
        return Excerpt { line, caret_start, caret_width };
    }
    let first = caret_start.saturating_sub(LEAD);
    let shown = cells.iter().skip(first).take(MAX_LINE).map(|(_, letter)| *letter);
    let (before, after) =
        (if first > 0 { "…" } else { "" }, if first + MAX_LINE < cells.len() { "…" } else { "" });
    let line = before.chars().chain(shown).chain(after.chars()).collect();
    let caret_start = caret_start - first + before.chars().count();
    Excerpt { line, caret_start, caret_width: caret_width.min(MAX_LINE + 1 - caret_start) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, hidden: &[Span], span: Span) -> (String, String) {
        let source = Source::new(text);
        for span in hidden {
            source.hide(span.clone());
        }
        let excerpt = source.excerpt(&span).unwrap();
        (excerpt.line, " ".repeat(excerpt.caret_start) + &"^".repeat(excerpt.caret_width))
    }

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("\u{feff}ä = 1\r\nb = 2");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(3), (1, 1));
        assert_eq!(source.position("\u{feff}ä".len()), (1, 2));
        assert_eq!(source.position("\u{feff}ä = 1\r\nb = ".len()), (2, 5));
        assert_eq!(source.position(1_000), (2, 1));
        assert_eq!(Source::new("").position(0), (1, 1));
        assert_eq!(Source::new("").excerpt(&(0..0)), None);
    }

    #[test]
    fn secrets_and_passwords_are_not_shown() {
        let expected = ("a = ***, b = 1".into(), "    ^^^".into());
        assert_eq!(shown("a = \"hunter2\", b = 1", std::slice::from_ref(&(4..13)), 4..13), expected);
        let expected = ("a = ***, b = 1".into(), "             ^".into());
        assert_eq!(shown("a = \"hunter2\", b = 1", std::slice::from_ref(&(4..13)), 19..20), expected);
        let url = "url = \"pg://u:p@h/\" # x";
        assert_eq!(
            shown(url, &[], 6..19),
            ("url = \"pg://***@h/\" # x".into(), "      ^^^^^^^^^^^^^".into())
        );
        assert_eq!(presentable("no \"a://b: c'?@d\""), "no \"a://***@d\"");
        assert_eq!(presentable("'a://b/?c=d e' x?"), "'a://b/?***' x?");
        assert_eq!(presentable("no \"a://b:c@d@e\" or \"f://g\""), "no \"a://***@e\" or \"f://g\"");
    }

    #[test]
    fn a_line_of_a_hidden_text_is_hidden() {
        assert_eq!(shown("a = '''x\nyz\n'''", std::slice::from_ref(&(4..15)), 10..11).0, "***");
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let text = "x".repeat(1_000);
        let (line, caret) = shown(&text, &[], 500..999);
        assert_eq!(
            (line.chars().count(), line.chars().next(), line.chars().last()),
            (122, Some('…'), Some('…'))
        );
        assert_eq!(caret, " ".repeat(41) + &"^".repeat(80));
        assert_eq!(shown(&text, &[], 0..1).1, "^");
        assert_eq!(shown(&text, &[], 1_000..1_000).1, " ".repeat(41) + "^");
    }

    #[test]
    fn deceptive_characters_are_replaced() {
        assert_eq!(shown("\ta\u{1b}\u{202e}b", &[], 1..2), ("    a\u{fffd}\u{fffd}b".into(), "    ^".into()));
    }
}
