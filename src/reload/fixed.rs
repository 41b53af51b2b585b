//! What stays as it was when the process began.

use std::mem::discriminant;

use crate::config::Config;

/// The settings that differ and can only be changed by a restart. Sockets are bound once, threads are started once, and
/// what tokens and sessions say of a user means something else with users of another kind.
pub(super) fn differing(before: &Config, after: &Config) -> Vec<&'static str> {
    let (then, now) = (&before.server, &after.server);
    let settings = [
        ("server.listen", then.listen != now.listen),
        ("server.http_redirect", then.http_redirect != now.http_redirect),
        ("server.admin", then.admin != now.admin),
        ("server.workers", then.workers != now.workers),
        ("tls", before.tls.is_some() != after.tls.is_some()),
        ("store", before.store != after.store),
        ("limits_store", before.limits_store != after.limits_store),
        ("log.otlp", before.otlp != after.otlp),
        ("users.source", discriminant(&before.users.source) != discriminant(&after.users.source)),
    ];
    settings.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Environment, parse};

    #[test]
    fn what_needs_a_restart_is_named_and_nothing_else_is() {
        let rest = "[upstreams.a]\ntargets = [\"http://a\"]\n[[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"a\"\n";
        let parsed = |text: &str| {
            let text = format!("{text}{rest}");
            parse(&text, "gateway.toml", Path::new(""), &Environment::default()).unwrap()
        };
        let before = parsed("server.workers = 2\n");
        assert_eq!(
            differing(&before, &parsed("server.workers = 2\nlog.level = \"debug\"\n")),
            Vec::<&str>::new()
        );
        let after = parsed(
            "server = { listen = [\"127.0.0.1:1\"], admin = \"\", workers = 3 }\nstore.url = \"sqlite://b.db\"\n\
             users = { source = \"file\", file.path = \"u\" }\n",
        );
        let all = ["server.listen", "server.admin", "server.workers", "store", "users.source"];
        assert_eq!(differing(&before, &after), all);
    }
}
