//! Reads points in time as people write them (RFC 3339), into milliseconds since 1970.

const EXPECTED: &str =
    "write it as 2025-01-31T09:00:00Z, 2025-01-31T10:00:00+01:00 or 2025-01-31 (UTC)";

/// A date alone is its midnight; a time without zone is UTC.
pub fn parse(text: &str) -> Result<i64, String> {
    milliseconds(text.trim()).ok_or_else(|| format!("{text} is not a point in time: {EXPECTED}"))
}

fn milliseconds(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, time),
        None => (text, "00:00:00Z"),
    };
    let [year, month, day] = numbers(date, '-')?;
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day);
    if !valid {
        return None;
    }
    let (clock, zone) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, "Z"),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let clock = if clock.matches(':').count() == 1 {
        format!("{clock}:00")
    } else {
        clock.to_owned()
    };
    let [hour, minute, second] = numbers(&clock, ':')?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - zone_seconds(zone)?) * 1000 + fraction_milliseconds(fraction)?)
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let zone = zone.get(1..)?;
    let (hours, minutes) = match zone.split_once(':') {
        Some(split) => split,
        None if zone.len() == 4 => zone.split_at_checked(2)?,
        None => (zone, "0"),
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

fn fraction_milliseconds(digits: &str) -> Option<i64> {
    let three: String = digits.chars().chain("000".chars()).take(3).collect();
    number(&three).filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let numbers: Vec<i64> = text.split(separator).map(number).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// Digits alone: no sign, at most four.
fn number(text: &str) -> Option<i64> {
    let plain = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leap_days = |year: i64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_days(before) - leap_days(1969);
    let months: i64 = (1..month).map(|month| days_of_month(year, month)).sum();
    years + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_points_in_time() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2024-03-01", 1_709_251_200_000),
            ("2025-01-31T09:00:00Z", 1_738_314_000_000),
            ("2025-01-31T10:00:00+01:00", 1_738_314_000_000),
            ("2025-01-31T04:00-0500", 1_738_314_000_000),
            ("2025-01-31 09:00:00.25", 1_738_314_000_250),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "soon",
            "2025-02-29",
            "2025-13-01",
            "2025-01-31T25:00Z",
            "2025-01-31T09:00:00+99:00",
            "-1",
            "2025-01-31T09:00:00.x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
