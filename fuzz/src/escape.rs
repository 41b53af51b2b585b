//! Text in a line of the log: it comes back unchanged, and nothing in the line is more than printable ASCII.

use tollgate::telemetry::escape::json_string;

/// Takes the bytes as a text.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut line = Vec::new();
    json_string(&mut line, &text);
    assert!(line.iter().all(|byte| (0x20..0x7f).contains(byte)), "{line:?}");
    assert_eq!(serde_json::from_slice::<String>(&line).expect("a string of JSON"), text);
}
