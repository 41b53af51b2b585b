//! Answers of an upstream over HTTP/1.1: what is passed on is what a strict reader finds, however the bytes are cut.

use http::Method;
use tollgate::upstream::{Trial, TrialEnd, read_answer};

/// What a strict reader finds.
#[derive(Debug)]
struct Strict<'a> {
    status: u16,
    persistent: bool,
    /// Its end is where its chunks say.
    is_chunked: bool,
    body: Vec<u8>,
    end: End<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum End<'a> {
    /// It is no answer from here on.
    Bad,
    /// More is to come.
    Cut,
    /// It ends with the connection.
    WithConnection,
    /// It is whole, and this is behind it.
    Whole(&'a [u8]),
}

/// Takes the first byte as the method and whether the target closes, the second as the size of the slices, and the rest as
/// what the target says.
pub(crate) fn run(data: &[u8]) {
    let [choice, size, bytes @ ..] = data else { return };
    let method = if choice & 1 == 0 { Method::GET } else { Method::HEAD };
    let closes = choice & 2 != 0;
    let is_head = method == Method::HEAD;
    let read = |size: usize| read_answer(method.clone(), bytes.chunks(size.max(1)), closes);
    let whole = read(bytes.len());
    for size in [usize::from(*size), 1] {
        assert_same(&whole, &read(size));
    }
    let strict = strict(bytes, is_head);
    match (&whole.head, &strict) {
        (None, _) => assert!(whole.body.is_empty() && !matches!(whole.end, TrialEnd::Whole { .. })),
        (Some(_), None) => panic!("this is no head: {whole:?}"),
        (Some((status, _)), Some(strict)) => {
            assert_eq!(status.as_u16(), strict.status);
            assert!(strict.body.starts_with(&whole.body), "{whole:?} {strict:?}");
            check_end(&whole, strict, closes);
        }
    }
}

fn assert_same(one: &Trial, other: &Trial) {
    let told = |trial: &Trial| {
        let Trial { informational, head, body, trailers, end } = trial;
        (informational.clone(), head.clone(), body.clone(), trailers.clone(), *end)
    };
    assert_eq!(told(one), told(other), "cuts make no difference");
}

fn check_end(trial: &Trial, strict: &Strict<'_>, closes: bool) {
    match trial.end {
        TrialEnd::Waiting => {
            assert!(!closes && !matches!(strict.end, End::Whole(_)), "{strict:?}");
            assert_eq!(trial.body, strict.body);
        }
        // There are limits for chunks, which a strict reader does not have.
        TrialEnd::Broken => {
            assert!(strict.is_chunked || strict.end == End::Cut && closes, "{trial:?} {strict:?}");
        }
        TrialEnd::Whole { reusable } => {
            assert_eq!(trial.body, strict.body);
            match strict.end {
                End::WithConnection => assert!(closes && !reusable, "{strict:?}"),
                End::Whole(rest) => {
                    assert_eq!(reusable, strict.persistent && !closes && rest.is_empty(), "{strict:?}");
                }
                End::Bad | End::Cut => panic!("this is not whole: {strict:?}"),
            }
        }
    }
}

/// A line without its end, and what follows. A line feed or carriage return alone ends nothing.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = bytes[..end].strip_suffix(b"\r")?;
    (!line.contains(&b'\r')).then_some((line, &bytes[end + 1..]))
}

/// The answer at the beginning of the bytes, behind informational ones, if it has a head with one meaning.
fn strict(bytes: &[u8], is_head: bool) -> Option<Strict<'_>> {
    let (start, mut rest) = line(bytes)?;
    let is_new = start.starts_with(b"HTTP/1.1 ");
    if !is_new && !start.starts_with(b"HTTP/1.0 ") {
        return None;
    }
    let status: u16 = std::str::from_utf8(start.get(9..12)?).ok()?.parse().ok()?;
    if !matches!(start.get(12), None | Some(b' ')) {
        return None;
    }
    let (mut lengths, mut codings, mut options) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let (field, after) = line(rest)?;
        rest = after;
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii().to_ascii_lowercase());
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        match &name.to_ascii_lowercase()[..] {
            b"content-length" => lengths.push(value),
            b"transfer-encoding" => codings.push(value),
            b"connection" => {
                options.extend(value.split(|byte| *byte == b',').map(|one| one.trim_ascii().to_vec()));
            }
            _ => {}
        }
    }
    if (100..200).contains(&status) && status != 101 {
        return strict(rest, is_head);
    }
    let length = match (&lengths[..], &codings[..]) {
        ([], []) => None,
        ([length], []) => Some(plain(length)?),
        ([], [coding]) if is_new && coding == b"chunked" => None,
        _ => return None,
    };
    let asked = |option: &[u8]| options.iter().any(|one| one == option);
    let persistent = !asked(b"close") && (is_new || asked(b"keep-alive")) && status != 101;
    let found = |body: &[u8], end| Strict {
        status,
        persistent,
        is_chunked: !codings.is_empty(),
        body: body.to_vec(),
        end,
    };
    if is_head || matches!(status, 204 | 304) {
        return Some(found(b"", End::Whole(rest)));
    }
    Some(match length {
        Some(length) => match usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) {
            Some((body, rest)) => found(body, End::Whole(rest)),
            None => found(rest, End::Cut),
        },
        None if codings.is_empty() => found(rest, End::WithConnection),
        None => {
            let (body, end) = chunks(rest);
            found(&body, end)
        }
    })
}

/// A number that is written in one way.
fn plain(digits: &[u8]) -> Option<u64> {
    let is_plain = matches!(digits, [b'0'] | [b'1'..=b'9', ..]) && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok()
}

fn chunks(bytes: &[u8]) -> (Vec<u8>, End<'_>) {
    let (mut body, mut rest) = (Vec::new(), bytes);
    let unfinished = |rest: &[u8]| if rest.contains(&b'\n') { End::Bad } else { End::Cut };
    loop {
        let Some((head, after)) = line(rest) else { return (body, unfinished(rest)) };
        let digits = head.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extension) = head.split_at(digits);
        let is_extension = matches!(extension.trim_ascii_start(), [] | [b';', ..]);
        let size = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let (Some(size), true) = (size, is_extension) else { return (body, End::Bad) };
        rest = after;
        if size == 0 {
            break;
        }
        let Some((chunk, after)) = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size))
        else {
            body.extend_from_slice(rest);
            return (body, End::Cut);
        };
        body.extend_from_slice(chunk);
        rest = match after {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return (body, End::Cut),
            _ => return (body, End::Bad),
        };
    }
    loop {
        let Some((trailer, after)) = line(rest) else { return (body, unfinished(rest)) };
        if trailer.is_empty() {
            return (body, End::Whole(after));
        }
        if trailer.iter().position(|byte| *byte == b':').is_none_or(|colon| colon == 0) {
            return (body, End::Bad);
        }
        rest = after;
    }
}
