//! The `Date` field of answers.

use std::cell::RefCell;

use http::HeaderValue;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::base::clock::Clock;

/// RFC 9110 section 5.6.7.
const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// The present time as a header value, made anew once a second.
#[derive(Debug)]
pub struct DateLine {
    clock: Clock,
    made: RefCell<(i64, HeaderValue)>,
}

impl DateLine {
    /// A line that goes by this clock.
    pub fn new(clock: Clock) -> Self {
        Self { clock, made: RefCell::new((i64::MIN, HeaderValue::from_static(""))) }
    }

    /// The present time.
    pub fn now(&self) -> HeaderValue {
        let seconds = self.clock.now_unix_ms().div_euclid(1000);
        let mut made = self.made.borrow_mut();
        if made.0 != seconds
            && let Ok(time) = OffsetDateTime::from_unix_timestamp(seconds)
            && let Ok(text) = time.format(FORMAT)
            && let Ok(value) = HeaderValue::try_from(text)
        {
            *made = (seconds, value);
        }
        made.1.clone()
    }
}
