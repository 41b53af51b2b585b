//! Streams that are open.
