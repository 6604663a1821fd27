//! Sizes and durations as people write them: a number and a unit. Sizes are in bytes, durations in milliseconds.

/// Units of size, largest first: binary, as memory and files are counted.
const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Units of time in milliseconds, largest first.
const DURATIONS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// `128MiB`, `1GiB`, `4096B`, or a plain number of bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    if let Ok(bytes) = text.trim().parse() {
        return Ok(bytes);
    }
    parse(text, SIZES)
        .ok_or_else(|| "a size is bytes or a whole number with B, KiB, MiB, GiB or TiB".to_owned())
}

/// `500ms`, `10s`, `5m`, `12h`, `7d`, in milliseconds. A number without a unit is refused: it does not say what it counts.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    parse(text, DURATIONS)
        .ok_or_else(|| "a duration is a whole number with ms, s, m, h or d".to_owned())
}

/// The shortest exact form that `parse_size` reads back.
pub fn size(bytes: u64) -> String {
    render(bytes, SIZES)
}

/// The shortest exact form that `parse_duration` reads back.
pub fn duration(milliseconds: u64) -> String {
    render(milliseconds, DURATIONS)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units
        .iter()
        .find(|(name, _)| unit.trim_start().eq_ignore_ascii_case(name))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn render(value: u64, units: &[(&str, u64)]) -> String {
    let (name, factor) = units
        .iter()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
        .or(units.last())
        .expect("the tables of units are not empty");
    format!("{}{name}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_as_written() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("4096B", 4096),
            ("1 KiB", 1024),
            ("128mib", 128 << 20),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, milliseconds) in [
            ("0ms", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("7d", 604_800_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(parse_duration(text), Ok(milliseconds), "{text}");
        }
    }

    #[test]
    fn what_has_no_unit_or_overflows_is_refused() {
        for text in [
            "",
            "MiB",
            "1.5MiB",
            "-1",
            "1MB",
            "99999999999TiB",
            "1 MiB extra",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        for text in ["", "10", "s", "1.5s", "-1s", "1w", "999999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rendering_is_exact_and_short() {
        for (bytes, text) in [
            (0, "0B"),
            (1_048_588, "1048588B"),
            (128 << 20, "128MiB"),
            (1536, "1536B"),
            (3 << 30, "3GiB"),
        ] {
            assert_eq!(size(bytes), text);
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for (milliseconds, text) in [
            (0, "0ms"),
            (1500, "1500ms"),
            (90_000, "90s"),
            (604_800_000, "7d"),
        ] {
            assert_eq!(duration(milliseconds), text);
            assert_eq!(parse_duration(text), Ok(milliseconds));
        }
    }
}
