//! Times and durations as people type and read them.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::outcome::Failure;

/// To the minute, in UTC.
#[must_use]
pub(crate) fn minute(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{} {:02}:{:02}", at.date(), at.hour(), at.minute())
}

#[must_use]
pub(crate) fn minute_or_dash(at: Option<OffsetDateTime>) -> String {
    at.map_or_else(|| "-".to_owned(), minute)
}

/// `90s`, `15m`, `24h`, `30d` or `2w`.
///
/// # Errors
/// What a duration looks like, for clap.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wanted = || format!("'{text}' is no duration; write 90s, 15m, 24h, 30d or 2w");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wanted)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(wanted()),
    };
    number
        .parse::<u64>()
        .ok()
        .filter(|number| *number > 0)
        .and_then(|number| number.checked_mul(seconds))
        .map(Duration::from_secs)
        .ok_or_else(wanted)
}

/// A point in time: RFC 3339, a date, or a duration from `now` on.
///
/// # Errors
/// `Misused` naming the argument.
pub(crate) fn parse_moment(argument: &str, text: &str, now: OffsetDateTime) -> Result<OffsetDateTime, Failure> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(at);
    }
    let day = time::macros::format_description!("[year]-[month]-[day]");
    if let Ok(date) = time::Date::parse(text, day) {
        return Ok(date.midnight().assume_utc());
    }
    let duration = parse_duration(text).ok().and_then(|duration| time::Duration::try_from(duration).ok());
    duration.and_then(|duration| now.checked_add(duration)).ok_or_else(|| {
        Failure::misused(format!("{argument} '{text}' is no time"))
            .remedy("write 2026-12-31, 2026-12-31T17:00:00Z, or a duration from now on such as 90d")
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn durations_have_a_unit_and_are_not_zero() {
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("2w"), Ok(Duration::from_secs(1_209_600)));
        for bad in ["", "15", "m", "0s", "-1h", "1y", "é", "99999999999999999999w"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_moment_is_a_time_a_date_or_from_now_on() {
        let now = datetime!(2026-11-20 12:00 UTC);
        let of = |text| parse_moment("--expires", text, now).ok();
        assert_eq!(of("2026-12-31T17:00:00Z"), Some(datetime!(2026-12-31 17:00 UTC)));
        assert_eq!(of("2026-12-31"), Some(datetime!(2026-12-31 0:00 UTC)));
        assert_eq!(of("2d"), Some(datetime!(2026-11-22 12:00 UTC)));
        assert_eq!(of("tomorrow"), None);
        assert_eq!(minute(datetime!(2026-11-20 12:05:59 +1)), "2026-11-20 11:05");
    }
}
