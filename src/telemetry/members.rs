//! Members of JSON objects, written without a document of them.

use super::escape::json_string;

/// Adds a member with a text to a JSON object, if there is one.
pub(super) fn text(line: &mut Vec<u8>, name: &[u8], text: Option<&str>) {
    let Some(text) = text else { return };
    member(line, name);
    json_string(line, text);
}

/// Adds a member with a number.
pub(super) fn number(line: &mut Vec<u8>, name: &[u8], number: u64) {
    member(line, name);
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn member(line: &mut Vec<u8>, name: &[u8]) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name);
    line.extend_from_slice(b"\":");
}
