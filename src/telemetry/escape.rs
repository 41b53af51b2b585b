//! Text inside a JSON line: nothing in it can end the line, colour a terminal or turn the direction of reading.

/// Appends `text` as a JSON string. Everything beyond printable ASCII is escaped.
pub fn json_string(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    // Nearly all text is plain, and is copied at once.
    if is_all_plain(text.as_bytes()) {
        line.extend_from_slice(text.as_bytes());
    } else {
        escaped(line, text);
    }
    line.push(b'"');
}

#[cold]
fn escaped(line: &mut Vec<u8>, text: &str) {
    for letter in text.chars() {
        match letter {
            '"' => line.extend_from_slice(b"\\\""),
            '\\' => line.extend_from_slice(b"\\\\"),
            ' '..='~' => line.push(letter as u8),
            other => escape(line, other),
        }
    }
}

/// Eight at a time, since of so many the compiler makes one comparison.
fn is_all_plain(text: &[u8]) -> bool {
    let (eights, rest) = text.as_chunks::<8>();
    let is_plain_eight = |eight: &[u8; 8]| eight.iter().fold(true, |plain, byte| plain & is_plain(*byte));
    eights.iter().all(is_plain_eight) && rest.iter().all(|byte| is_plain(*byte))
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

/// A finished line, in which everything beyond printable ASCII but the end is escaped as in a JSON string. A JSON object
/// stays the same object, for outside of its strings there is nothing else.
pub(super) fn plain_line(written: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(written);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut line = Vec::with_capacity(text.len() + 1);
    for letter in text.chars() {
        match letter {
            ' '..='~' => line.push(letter as u8),
            other => escape(&mut line, other),
        }
    }
    line.push(b'\n');
    line
}

fn escape(line: &mut Vec<u8>, letter: char) {
    for unit in letter.encode_utf16(&mut [0; 2]) {
        line.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        assert_eq!(plain_line(b"a \"b\"\n"), b"a \"b\"\n");
        let odd = "INFO a\nb\r\t\u{1b}[1m\u{9b}\u{202e}\u{1f600}\n";
        assert_eq!(
            plain_line(odd.as_bytes()),
            b"INFO a\\u000ab\\u000d\\u0009\\u001b[1m\\u009b\\u202e\\ud83d\\ude00\n"
        );
    }

    proptest! {
        #[test]
        fn an_object_stays_the_same_object(text in "\\PC{0,20}|.{0,20}|[\\x00-\\x1f\\u{202e}\\u{7f}-\\u{9f}]{0,8}") {
            let object = serde_json::json!({ "text": text });
            let line = plain_line(format!("{object}\n").as_bytes());
            prop_assert!(line.strip_suffix(b"\n").unwrap().iter().all(|byte| (0x20..0x7f).contains(byte)));
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).unwrap(), object);
        }

        #[test]
        fn a_string_comes_back_and_is_plain_ascii(text in "\\PC{0,20}|.{0,20}|[\\x00-\\x1f\\u{202e}]{0,8}") {
            let mut line = Vec::new();
            json_string(&mut line, &text);
            prop_assert!(line.iter().all(|byte| (0x20..0x7f).contains(byte)));
            prop_assert_eq!(serde_json::from_slice::<String>(&line).unwrap(), text);
        }
    }
}
