//! What changes beside the routes.

use super::{Changes, Side, Weight, listed, only_in, pairs};
use crate::config::{
    CertificateFiles, LimitScope, Network, RateLimit, Server, Tls, Tokens, Upstream, UserSource, Users,
};
use crate::keys::{Key, KeyRing};

/// Compares everything but the routes.
pub(super) fn compare(before: Side<'_>, after: Side<'_>, changes: &mut Changes) {
    keys(before.ring, after.ring, changes);
    let (before, after) = (before.config, after.config);
    tokens(&before.tokens, &after.tokens, changes);
    if before.limits.iter().map(|limit| &limit.name).eq(after.limits.iter().map(|limit| &limit.name)) {
        changes.setting(Weight::Other, "tokens.limit", &before.tokens.limits, &after.tokens.limits);
    }
    users(&before.users, &after.users, changes);
    tls(before.tls.as_ref(), after.tls.as_ref(), changes);
    server(&before.server, &after.server, changes);
    upstreams(&before.upstreams, &after.upstreams, changes);
    limits(&before.limits, &after.limits, changes);
    changes.setting(Weight::Other, "log", &before.log, &after.log);
}

fn keys(before: Option<&KeyRing>, after: Option<&KeyRing>, changes: &mut Changes) {
    let (Some(before), Some(after)) = (before, after) else {
        if before.is_some() {
            changes.add(Weight::Trust, "a key is made, and what was signed before is refused");
        }
        return;
    };
    let (then, now): (Vec<&Key>, Vec<&Key>) = (before.keys().collect(), after.keys().collect());
    let kid = |key: &&Key| key.kid().to_owned();
    for key in only_in(&now, &then, kid) {
        changes.add(Weight::Trust, format!("key {} ({}) is added", key.kid(), key.algorithm()));
    }
    for key in only_in(&then, &now, kid) {
        changes.add(Weight::Trust, format!("key {} is removed: what it signed is refused", key.kid()));
    }
    for (then, now) in pairs(&then, &now, kid).filter(|(then, now)| !then.is_same(now)) {
        let begins = |key: &Key| key.schedule().map(|schedule| schedule.signs_at_ms);
        let what = match (begins(then) == begins(now), then.retires_at_ms() == now.retires_at_ms()) {
            (false, _) => "signs at another time",
            (true, true) => "is another key",
            (true, false) if now.schedule().is_some() => "retires at another time",
            (true, false) => "has another verify_until",
        };
        changes.add(Weight::Trust, format!("key {} {what}", now.kid()));
    }
    if before.signer().kid() != after.signer().kid() {
        let (then, now) = (before.signer().kid(), after.signer().kid());
        changes.add(Weight::Trust, format!("key {now} signs (was {then})"));
    }
}

fn tokens(before: &Tokens, after: &Tokens, changes: &mut Changes) {
    let said = changes.count();
    changes.setting(Weight::Trust, "tokens.issuer", &before.issuer, &after.issuer);
    changes.setting(Weight::Trust, "tokens.audience", &before.audience, &after.audience);
    changes.setting(Weight::Trust, "tokens.user_id_claim", &before.user_id_claim, &after.user_id_claim);
    changes.setting(Weight::Trust, "tokens.leeway", &before.leeway, &after.leeway);
    changes.setting(Weight::Trust, "tokens.access_lifetime", &before.access_lifetime, &after.access_lifetime);
    changes.setting(
        Weight::Trust,
        "tokens.refresh_lifetime",
        &before.refresh_lifetime,
        &after.refresh_lifetime,
    );
    changes.setting(
        Weight::Trust,
        "tokens.session_lifetime",
        &before.session_lifetime,
        &after.session_lifetime,
    );
    changes.value(Weight::Trust, "tokens.rotate_refresh", &before.rotate_refresh, &after.rotate_refresh);
    changes.setting(Weight::Trust, "tokens.reuse_grace", &before.reuse_grace, &after.reuse_grace);
    changes.setting(Weight::Trust, "tokens.stream_grace", &before.stream_grace, &after.stream_grace);
    changes.setting(
        Weight::Trust,
        "tokens.key_encryption_key",
        &before.key_encryption_key,
        &after.key_encryption_key,
    );
    changes.setting(
        Weight::Other,
        "tokens.key_rotation_delay",
        &before.key_rotation_delay,
        &after.key_rotation_delay,
    );
    changes.setting(Weight::Other, "tokens.claims", &before.claims, &after.claims);
    changes.value(Weight::Other, "tokens.path", &before.path, &after.path);
    changes.value(Weight::Other, "tokens.realm", &before.realm, &after.realm);
    // Keys are told of as they were loaded, and limits by their names.
    let bare = |tokens: &Tokens| Tokens { keys: Vec::new(), limits: Vec::new(), ..tokens.clone() };
    changes.rest(said, Weight::Trust, "tokens", &bare(before), &bare(after));
}

fn users(before: &Users, after: &Users, changes: &mut Changes) {
    let said = changes.count();
    match (&before.source, &after.source) {
        (UserSource::File(then), UserSource::File(now)) if then != now => {
            changes.add(
                Weight::Trust,
                format!("users are read from {} (was {})", now.display(), then.display()),
            );
        }
        (then, now) => changes.setting(Weight::Trust, "users", then, now),
    }
    changes.setting(Weight::Trust, "users.lockout", &before.lockout, &after.lockout);
    changes.setting(Weight::Other, "users.hashing", &before.hashing, &after.hashing);
    changes.rest(said, Weight::Trust, "users", before, after);
}

fn tls(before: Option<&Tls>, after: Option<&Tls>, changes: &mut Changes) {
    let said = changes.count();
    if let (Some(then), Some(now)) = (before, after) {
        let hosts = |certificate: &CertificateFiles| {
            listed(&certificate.hosts.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        for added in only_in(&now.certificates, &then.certificates, hosts) {
            changes.add(Weight::Trust, format!("a certificate for {} is added", hosts(added)));
        }
        for removed in only_in(&then.certificates, &now.certificates, hosts) {
            changes.add(Weight::Trust, format!("the certificate for {} is removed", hosts(removed)));
        }
        for (then, now) in pairs(&then.certificates, &now.certificates, hosts) {
            if then != now {
                let text = format!("the certificate for {} is read from {}", hosts(now), now.cert.display());
                changes.add(Weight::Trust, text);
            }
        }
        changes.setting(Weight::Trust, "tls.min_version", &then.min_version, &now.min_version);
        changes.setting(Weight::Trust, "tls.client_auth", &then.client_auth, &now.client_auth);
    }
    changes.rest(said, Weight::Trust, "tls", &before, &after);
}

fn server(before: &Server, after: &Server, changes: &mut Changes) {
    let said = changes.count();
    let network = |network: &Network| format!("{}/{}", network.address, network.prefix_bits);
    let shown = |these: &Server, others: &Server| -> Vec<String> {
        only_in(&these.trusted_proxies, &others.trusted_proxies, |network| *network).map(network).collect()
    };
    for (networks, words) in [
        (shown(after, before), "is believed as a proxy"),
        (shown(before, after), "is no longer believed as a proxy"),
    ] {
        if !networks.is_empty() {
            changes.add(Weight::Trust, format!("server.trusted_proxies: {} {words}", listed(&networks)));
        }
    }
    let (then, now) = (&before.limits, &after.limits);
    changes.value(
        Weight::Other,
        "server.limits.max_connections",
        &then.max_connections,
        &now.max_connections,
    );
    changes.value(Weight::Other, "server.limits.max_headers", &then.max_headers, &now.max_headers);
    let names: [(&str, bool); 7] = [
        ("max_connections_per_network", then.max_connections_per_network != now.max_connections_per_network),
        ("max_header_bytes", then.max_header_bytes != now.max_header_bytes),
        ("max_body", then.max_body != now.max_body),
        ("header_timeout", then.header_timeout != now.header_timeout),
        ("body_timeout", then.body_timeout != now.body_timeout),
        ("min_rate", then.min_rate != now.min_rate),
        ("idle_timeout", then.idle_timeout != now.idle_timeout),
    ];
    for (name, _) in names.into_iter().filter(|(_, differs)| *differs) {
        changes.add(Weight::Other, format!("server.limits.{name} changes"));
    }
    changes.setting(Weight::Other, "server.drain_timeout", &before.drain_timeout, &after.drain_timeout);
    changes.rest(said, Weight::Other, "server", before, after);
}

fn upstreams(before: &[Upstream], after: &[Upstream], changes: &mut Changes) {
    let name = |upstream: &Upstream| upstream.name.clone();
    for added in only_in(after, before, name) {
        changes.add(Weight::Other, format!("upstream {} is added: {}", added.name, listed(&added.targets)));
    }
    for removed in only_in(before, after, name) {
        changes.add(Weight::Other, format!("upstream {} is removed", removed.name));
    }
    for (then, now) in pairs(before, after, name).filter(|(then, now)| then != now) {
        let said = changes.count();
        let only = |these: &'_ Upstream, others: &'_ Upstream| {
            let only = only_in(&these.targets, &others.targets, Clone::clone);
            listed(&only.map(ToString::to_string).collect::<Vec<_>>())
        };
        for (targets, words) in
            [(only(now, then), "has the new target"), (only(then, now), "loses the target")]
        {
            if !targets.is_empty() {
                changes.add(Weight::Other, format!("upstream {} {words} {targets}", now.name));
            }
        }
        changes.setting(Weight::Trust, &format!("upstream {}: tls", now.name), &then.tls, &now.tls);
        changes.setting(
            Weight::Trust,
            &format!("upstream {}: identity", now.name),
            &then.identity,
            &now.identity,
        );
        changes.rest(said, Weight::Other, &format!("upstream {}", now.name), then, now);
    }
}

fn limits(before: &[RateLimit], after: &[RateLimit], changes: &mut Changes) {
    let name = |limit: &RateLimit| limit.name.clone();
    for added in only_in(after, before, name) {
        changes.add(Weight::Other, format!("limit {} is added: {}", added.name, rates(added)));
    }
    for removed in only_in(before, after, name) {
        changes.add(Weight::Other, format!("limit {} is removed", removed.name));
    }
    for (then, now) in pairs(before, after, name).filter(|(then, now)| then != now) {
        let (then, shown) = (rates(then), rates(now));
        let text = if then == shown {
            format!("limit {}: settings change, and it counts from nothing", now.name)
        } else {
            format!("limit {} becomes {shown} (was {then}), and counts from nothing", now.name)
        };
        changes.add(Weight::Other, text);
    }
}

fn rates(limit: &RateLimit) -> String {
    let rates = limit.rates.iter().map(|rate| format!("{}/{}", rate.count, rate.unit.letter()));
    let rates = listed(&rates.collect::<Vec<_>>());
    match limit.scope {
        LimitScope::Node => rates,
        LimitScope::Cluster => format!("{rates} at all gateways together"),
    }
}
