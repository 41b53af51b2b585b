//! Every named maximum that is not a setting. What a setting limits has its default in `config`.

use std::num::NonZeroU32;

/// Longest token that is looked at, in bytes. A longer one is refused before it is decoded.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Longest time from now to a token's `exp`, in seconds: 366 days. A token that practically never ends is refused.
pub const MAX_TOKEN_LIFETIME_SECONDS: i64 = 366 * 24 * 60 * 60;
/// Longest `jti`, `sid` or user id in a token, in bytes.
pub const MAX_IDENTIFIER_BYTES: usize = 255;
/// Most members in a token's header or payload.
pub const MAX_TOKEN_MEMBERS: usize = 128;
/// Verified tokens that one data-plane thread remembers.
pub const TOKEN_CACHE_ENTRIES: usize = 16_384;
/// Longest password, in bytes. A longer one is refused before it is hashed.
pub const MAX_PASSWORD_BYTES: usize = 1024;
/// Pairs of user and network, and networks, whose failed logins are counted.
pub const MAX_TRACKED_LOGINS: usize = 65_536;
/// How many times `users.lockout.attempts` may fail from one network, whoever is tried.
pub const NETWORK_ATTEMPTS_FACTOR: u32 = 10;
/// Keys that each rate of a limit counts requests for. They take 1 MiB.
pub const RATE_KEYS: usize = 57_344;
/// Most rates that a request has to keep on one route, of all limits of the route together.
pub const MAX_RATES_OF_ROUTE: usize = 8;
/// Keys of a rate with `scope = "cluster"` that the limits store has not counted yet. Of more, what passes is counted by the
/// gateway alone.
pub const UNSETTLED_KEYS: usize = 65_536;
/// How often the limits store is told what has passed, in milliseconds.
pub const LIMITS_STORE_INTERVAL_MS: u64 = 100;
/// How long a request waits for the limits store, in milliseconds.
pub const LIMITS_STORE_WAIT_MS: u64 = 50;
/// How long the limits store has to connect or to answer before it counts as away, in milliseconds.
pub const LIMITS_STORE_TIMEOUT_MS: u64 = 250;
/// Into how many parts the burst of a limit is cut, one of which all gateways together may let pass before the limits store
/// knows; each gateway may one at least.
pub const UNSETTLED_PART: u32 = 10;
/// Requests that a client network may make to the token routes in a second, for each data-plane thread, when nothing else
/// is configured.
pub const TOKEN_ROUTES_RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999);
/// Longest user name, in bytes.
pub const MAX_USERNAME_BYTES: usize = 255;
/// Largest body of a request to a token route, in bytes.
pub const MAX_TOKEN_REQUEST_BYTES: usize = 64 * 1024;
/// Most fields in a form or multipart body of a token route.
pub const MAX_FORM_FIELDS: usize = 64;
/// Longest host name with its port, in bytes (RFC 1035 section 2.3.4 allows 253 for the name).
pub const MAX_HOST_BYTES: usize = 261;
/// Longest request target, in bytes.
pub const MAX_TARGET_BYTES: usize = 16 * 1024;
/// Most segments in a path.
pub const MAX_PATH_SEGMENTS: usize = 128;
/// Largest configuration, user, key or secret file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Sessions of TLS 1.2 clients without tickets that are remembered for resumption.
pub const MAX_TLS_SESSIONS: usize = 4096;
/// Over how many milliseconds `min_rate` is measured.
pub const RATE_WINDOW_MS: u64 = 10_000;
/// How often deadlines are looked at, in milliseconds. A limit ends a connection at most this much late.
pub const TICK_MS: u64 = 100;
/// For how many milliseconds a data-plane thread gives no sign of life before it is said to stand still.
pub const STALL_MS: u64 = 5000;
/// How long the gateway waits at most, when it ends a WebSocket, for the frames under way and for both sides to end, in
/// milliseconds.
pub const CLOSE_FRAME_WAIT_MS: u64 = 1000;
/// How often the store and watched files are looked at for changes by others, in milliseconds.
pub const WATCH_INTERVAL_MS: u64 = 100;
/// Refusals that one data-plane thread remembers, so that they can be explained.
pub const REMEMBERED_REFUSALS: usize = 1024;
/// Bytes of a path, or of another text, that are remembered of a refusal.
pub const REMEMBERED_TEXT_BYTES: usize = 1024;
/// Bytes of log lines that wait for a slow sink before lines are dropped and counted.
pub const MAX_LOG_BACKLOG_BYTES: usize = 8 * 1024 * 1024;
/// Streams of HTTP/2 that one client connection may have open.
pub const HTTP2_MAX_STREAMS: u32 = 100;
/// Bytes that a client may send ahead on one stream of HTTP/2.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Bytes that a client may send ahead on all streams of an HTTP/2 connection.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of an answer that wait for an HTTP/2 connection to take them, for each stream.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Streams that a client may open and reset before they were looked at. One more ends the connection.
pub const HTTP2_MAX_RESET_STREAMS: usize = 20;
/// Streams that the gateway resets because of a client's faults before it ends the connection.
pub const HTTP2_MAX_ERROR_RESETS: usize = 100;
/// Largest head of an answer over HTTP/2, in bytes as RFC 9113 section 6.5.2 counts them.
pub const MAX_ANSWER_HEADER_BYTES: u32 = 64 * 1024;
/// Bytes of a request's body that are kept until its answer begins, so that a request that an upstream did not process
/// can be sent again over HTTP/2.
pub const MAX_REPLAY_BYTES: usize = 64 * 1024;
/// After how many milliseconds without a byte an HTTP/2 connection with requests is asked whether it is alive, and after
/// how many more it is given up.
pub const SILENCE_MS: u64 = 10_000;
/// From how many bytes on the body of an answer goes from the upstream's socket to the client's without being copied, where
/// it can.
pub const MIN_SPLICED_BYTES: usize = 256 * 1024;
/// Bytes of such a body that the system holds for a client that does not read, in a pipe.
pub const PIPE_BYTES: usize = 256 * 1024;
/// Pipes that one data-plane thread may have in use. Bodies for which there is none are copied.
pub const PIPES: usize = 64;
