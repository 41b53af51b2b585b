//! Values that every other module uses: no I/O, no runtime, nothing of the rest of the crate.

pub mod algorithm;
pub mod bounds;
pub mod claim;
pub mod clock;
pub mod field_list;
pub mod field_value;
pub mod fields;
pub mod grounds;
pub mod ids;
pub mod path;
pub mod pattern;
pub mod principal;
pub mod proxy_error;
pub mod reason;
pub mod secret;
pub mod soon;
pub mod template;
pub mod user;
pub mod usual_names;
