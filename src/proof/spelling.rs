//! The spellings of a name that some server reads as that name.

/// Every byte that a name may have beside letters and digits (RFC 9110 section 5.6.2).
const SEPARATORS: &[char] = &['-', '_', '.', '!', '#', '$', '%', '&', '\'', '*', '+', '^', '`', '|', '~'];

/// Those that stand at the end of a name in practice, or behind the `http` in front of it.
const COMMON: &[char] = &['-', '_', '.'];

/// How many spellings are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// The name itself, and as CGI writes it.
    Two,
    /// One of every sort.
    Sorts,
    /// All.
    All,
}

/// The spellings of a name in lower case, which is the first of them. Each is there once.
pub(super) fn spellings(name: &str, depth: Depth) -> Vec<String> {
    let underscores = name.replace('-', "_");
    let mut spellings = vec![name.to_owned(), format!("http_{underscores}")];
    if depth != Depth::Two {
        spellings.extend([
            name.to_ascii_uppercase(),
            name.replace('-', ""),
            name.replace('-', "--"),
            format!("{name}-"),
            underscores,
        ]);
    }
    if depth == Depth::All {
        spellings.push(capitalised(name));
        spellings.push(name.replacen('-', "_", 1));
        spellings.push(format!("HTTP-{}", name.to_ascii_uppercase()));
        spellings.push(format!("http{name}"));
        for separator in SEPARATORS.iter().map(char::to_string) {
            spellings.push(name.replace('-', &format!("-{separator}")));
            spellings.push(name.replace('-', &separator.repeat(2)));
            spellings.push(name.replace('-', &separator));
        }
        for separator in COMMON.iter().map(char::to_string) {
            let written = name.replace('-', &separator);
            spellings.push(format!("{separator}{written}"));
            spellings.push(format!("{written}{separator}"));
            spellings.push(format!("http{separator}{written}"));
        }
    }
    let mut once = Vec::with_capacity(spellings.len());
    for spelling in spellings {
        if !once.contains(&spelling) {
            once.push(spelling);
        }
    }
    once
}

/// As it is usually written: `X-User-Id`.
fn capitalised(name: &str) -> String {
    let mut begins = true;
    let letter = |letter: char| {
        let written = if begins { letter.to_ascii_uppercase() } else { letter };
        begins = letter == '-';
        written
    };
    name.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_many_and_differ() {
        let all = spellings("x-user-id", Depth::All);
        assert_eq!(all.first().unwrap(), "x-user-id");
        for spelling in [
            "X-USER-ID",
            "X-User-Id",
            "x_user_id",
            "x.user.id",
            "x'user'id",
            "xuserid",
            "x--user--id",
            "x__user__id",
            "x-_user-_id",
            "x_user-id",
            "-x-user-id",
            "x_user_id_",
            "http_x_user_id",
            "HTTP-X-USER-ID",
            "http.x.user.id",
            "httpx-user-id",
        ] {
            assert!(all.iter().any(|other| other == spelling), "{spelling}");
        }
        assert!(all.len() > 50);
        let mut sorted = all.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), all.len());
        assert!(spellings("host", Depth::Sorts).len() > 3);
    }
}
