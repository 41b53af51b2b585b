//! The PROXY protocol's header: how much has come makes no difference to what it says.

use tollgate::net::proxy_protocol::{Introduction, read};

/// More bytes than any header has: no more are waited for.
const MOST: usize = 4096 + 16;

/// Takes the bytes as the beginning of a connection from a trusted proxy.
pub(crate) fn run(data: &[u8]) {
    let whole = read(data);
    match whole {
        Introduction::Header { bytes, .. } => {
            assert!(bytes > 0 && bytes <= data.len(), "a header is in what has come");
            let before = read(&data[..bytes - 1]);
            assert_eq!(before, Introduction::Incomplete, "its last byte belongs to it");
            assert_eq!(read(&data[..bytes]), whole, "what follows is the client's");
        }
        Introduction::Incomplete => assert!(data.len() < MOST, "a header is waited for for ever"),
        Introduction::None | Introduction::Malformed => {}
    }
    // What was told from the beginning of a connection stays true when more comes.
    for end in (0..data.len()).take(64) {
        match read(&data[..end]) {
            Introduction::Incomplete => {}
            told @ (Introduction::None | Introduction::Malformed | Introduction::Header { .. }) => {
                assert_eq!(whole, told, "{end} bytes told otherwise");
            }
        }
    }
}
