//! How lenient servers read a path. Written without the code under test, so that it can be held against it.

/// Decodes every `%XY`; what is no escape stands for itself.
pub(crate) fn decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%'
            && let [high, low, tail @ ..] = after
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            decoded.push(high * 16 + low);
            rest = tail;
        } else {
            decoded.push(byte);
        }
    }
    decoded
}

/// What remains when backslashes are slashes, parameters are cut, empty segments are dropped and dot segments are
/// resolved: the boldest reading there is. A slash at the end stays.
pub(crate) fn collapsed(path: &[u8]) -> Vec<u8> {
    let slashes: Vec<u8> = path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_open = false;
    for segment in slashes.split(|byte| *byte == b'/').skip(1) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        ends_open = matches!(name, b"" | b"." | b"..");
        match name {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    let mut collapsed = vec![b'/'];
    collapsed.extend(segments.join(&b'/'));
    if ends_open && !segments.is_empty() {
        collapsed.push(b'/');
    }
    collapsed
}
