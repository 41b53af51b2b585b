//! Text inside a JSON line: nothing in it can end the line, colour a terminal or turn the direction of reading.

/// Appends `text` as a JSON string. Everything beyond printable ASCII is escaped.
pub fn json_string(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    for letter in text.chars() {
        match letter {
            '"' => line.extend_from_slice(b"\\\""),
            '\\' => line.extend_from_slice(b"\\\\"),
            ' '..='~' => line.push(letter as u8),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    line.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_string_comes_back_and_is_plain_ascii(text in "\\PC{0,20}|.{0,20}|[\\x00-\\x1f\\u{202e}]{0,8}") {
            let mut line = Vec::new();
            json_string(&mut line, &text);
            prop_assert!(line.iter().all(|byte| (0x20..0x7f).contains(byte)));
            prop_assert_eq!(serde_json::from_slice::<String>(&line).unwrap(), text);
        }
    }
}
