//! Goes through a JSON text (RFC 8259) once and checks all of it, without building anything.

use std::fmt;
use std::ops::Range;

/// Values nested deeper are refused: so many bits tell objects from arrays, and each level on a path takes some of a guest's
/// small stack.
const MAX_DEPTH: u32 = u128::BITS - 1;

/// Why a text is not JSON: what was expected, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    expected: &'static str,
    /// In bytes from the start of the text.
    position: usize,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is expected at byte {}", self.expected, self.position)
    }
}

impl std::error::Error for Error {}

/// A place in a text. All before it is checked.
pub(super) struct Scanner<'t> {
    here: Here<'t>,
    depth: u32,
}

/// A member's name as written, without its quotes.
#[derive(Clone, Copy)]
pub(super) struct Name<'t> {
    raw: &'t [u8],
    is_escaped: bool,
    /// Where its first quote stands.
    pub(super) start: usize,
}

impl Name<'_> {
    /// However its letters are escaped.
    #[inline(always)]
    pub(super) fn is(&self, name: &str) -> bool {
        self.raw == name.as_bytes() || self.is_escaped && is_spelling(self.raw, name)
    }
}

#[cold]
fn is_spelling(raw: &[u8], name: &str) -> bool {
    let text = std::str::from_utf8(raw).ok().and_then(unescaped);
    text.as_deref() == Some(name)
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Self {
            here: Here {
                text,
                position: 0,
                seen: 0,
            },
            depth: 0,
        }
    }

    pub(super) fn text(&self) -> &'t [u8] {
        self.here.text
    }

    pub(super) fn position(&self) -> usize {
        self.here.position
    }

    /// The next byte that is no space, which is not taken; 0 at the end.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> u8 {
        self.here.peek()
    }

    /// Goes into the object or array that begins here.
    #[inline(always)]
    pub(super) fn open(&mut self) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return Err(self.here.expected("less depth"));
        }
        self.here.position += 1;
        self.depth += 1;
        Ok(())
    }

    #[inline(always)]
    fn close(&mut self) {
        self.here.position += 1;
        self.depth -= 1;
    }

    /// The name of the next member of the object that was opened last, with its value ahead; `None` behind the object.
    #[inline(always)]
    pub(super) fn next_member(&mut self, is_first: &mut bool) -> Result<Option<Name<'t>>, Error> {
        match self.here.peek() {
            b'}' => {
                self.close();
                return Ok(None);
            }
            _ if *is_first => *is_first = false,
            b',' => self.here.position += 1,
            _ => return Err(self.here.expected(MORE_MEMBERS)),
        }
        self.here.name().map(Some)
    }

    /// Whether the array that was opened last has another element, which is ahead then.
    #[inline(always)]
    pub(super) fn next_element(&mut self, is_first: &mut bool) -> Result<bool, Error> {
        match self.here.peek() {
            b']' => {
                self.close();
                return Ok(false);
            }
            _ if *is_first => *is_first = false,
            b',' => self.here.position += 1,
            _ => return Err(self.here.expected(MORE_ELEMENTS)),
        }
        Ok(true)
    }

    /// The text of the value ahead, which is gone past.
    pub(super) fn value(&mut self) -> Result<&'t str, Error> {
        self.here.peek();
        let start = self.here.position;
        self.skip()?;
        checked(self.here.text, start..self.here.position)
    }

    /// Goes past the value ahead.
    pub(super) fn skip(&mut self) -> Result<(), Error> {
        self.here = skip(self.here)?;
        Ok(())
    }

    /// That nothing follows, and that all was text.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        self.here.peek();
        if self.here.position < self.here.text.len() {
            return Err(self.here.expected("nothing more"));
        }
        if self.here.seen & SIGNS != 0 {
            checked(self.here.text, 0..self.here.text.len())?;
        }
        Ok(())
    }
}

/// A part of the text, if it is UTF-8.
fn checked(text: &[u8], part: Range<usize>) -> Result<&str, Error> {
    std::str::from_utf8(&text[part.clone()]).map_err(|error| Error {
        expected: "text in UTF-8",
        position: part.start + error.valid_up_to(),
    })
}

/// What a scanner's steps work on. They are inlined where they are called, and what is rare is passed values alone: so it stays
/// in registers, and a guest's calls and loops, each of which looks at the deadline, are few.
#[derive(Clone, Copy)]
struct Here<'t> {
    text: &'t [u8],
    position: usize,
    /// The bytes of all strings so far, one upon the other: whether any is beyond ASCII. Outside of strings none may be.
    seen: u64,
}

/// Goes past one value.
fn skip(mut here: Here<'_>) -> Result<Here<'_>, Error> {
    // The objects (1) and arrays (0) that are open, the innermost in the lowest bit, under a bit that is always there.
    let mut open = 1_u128;
    loop {
        match here.peek() {
            b'"' => {
                here.string()?;
            }
            b'-' | b'0'..=b'9' => here.number()?,
            bracket @ (b'{' | b'[') => {
                if open >> MAX_DEPTH != 0 {
                    return Err(here.expected("less depth"));
                }
                here.position += 1;
                open = open << 1 | u128::from(bracket == b'{');
                match (bracket, here.peek()) {
                    (b'{', b'}') | (b'[', b']') => {}
                    (b'{', _) => {
                        here.name()?;
                        continue;
                    }
                    _ => continue,
                }
            }
            _ => here.position = literal_end(here.text, here.position)?,
        }
        loop {
            if open == 1 {
                return Ok(here);
            }
            match (here.peek(), open & 1 == 1) {
                (b',', is_object) => {
                    here.position += 1;
                    if is_object {
                        here.name()?;
                    }
                    break;
                }
                (b'}', true) | (b']', false) => {
                    here.position += 1;
                    open >>= 1;
                }
                (_, true) => return Err(here.expected(MORE_MEMBERS)),
                (_, false) => return Err(here.expected(MORE_ELEMENTS)),
            }
        }
    }
}

impl<'t> Here<'t> {
    #[inline(always)]
    fn expected(&self, expected: &'static str) -> Error {
        Error {
            expected,
            position: self.position,
        }
    }

    /// 0 at the end. It is nowhere allowed.
    #[inline(always)]
    fn byte(&self) -> u8 {
        self.text.get(self.position).copied().unwrap_or(0)
    }

    /// The next eight bytes, the first in the lowest bits; 0 behind the end.
    #[inline(always)]
    fn word(&self) -> u64 {
        match self.text.get(self.position..self.position + 8) {
            Some(bytes) => bytes.try_into().map_or(0, u64::from_le_bytes),
            None => last_word(self.text, self.position),
        }
    }

    #[inline(always)]
    fn peek(&mut self) -> u8 {
        if self.byte() <= b' ' {
            self.position = space_end(self.text, self.position);
        }
        self.byte()
    }

    /// A member's name and the colon.
    #[inline(always)]
    fn name(&mut self) -> Result<Name<'t>, Error> {
        if self.peek() != b'"' {
            return Err(self.expected("a name"));
        }
        let start = self.position;
        let is_escaped = self.string()?;
        let raw = self.text.get(start + 1..self.position - 1);
        if self.peek() != b':' {
            return Err(self.expected("a colon"));
        }
        self.position += 1;
        Ok(Name {
            raw: raw.unwrap_or_default(),
            is_escaped,
            start,
        })
    }

    /// Goes past the string whose quote is here. Whether any of its letters are escaped.
    #[inline(always)]
    fn string(&mut self) -> Result<bool, Error> {
        self.position += 1;
        let mut is_escaped = false;
        loop {
            let word = self.word();
            self.seen |= word;
            let marks = special(word);
            if marks == 0 {
                // Most strings end within eight bytes. This one does not.
                (self.position, self.seen) = plain_end(self.text, self.position + 8, self.seen);
                continue;
            }
            self.position += marks.trailing_zeros() as usize / 8;
            match self.byte() {
                b'"' => {
                    self.position += 1;
                    return Ok(is_escaped);
                }
                b'\\' => {
                    is_escaped = true;
                    self.position = escape_end(self.text, self.position)?;
                }
                _ => return Err(self.expected("a closing quote")),
            }
        }
    }

    /// One or more.
    #[inline(always)]
    fn digits(&mut self) -> Result<(), Error> {
        let end = digits_end(*self);
        if end == self.position {
            return Err(self.expected("a digit"));
        }
        self.position = end;
        Ok(())
    }

    /// Goes past the number that begins here.
    #[inline(always)]
    fn number(&mut self) -> Result<(), Error> {
        self.position += usize::from(self.byte() == b'-');
        if self.byte() == b'0' {
            self.position += 1;
        } else {
            self.digits()?;
        }
        if matches!(self.byte(), b'.' | b'e' | b'E') {
            self.position = fraction_end(*self)?;
        }
        Ok(())
    }
}

const MORE_MEMBERS: &str = "a comma, or the end of the object,";
const MORE_ELEMENTS: &str = "a comma, or the end of the array,";

const ONES: u64 = u64::from_le_bytes([1; 8]);
const SIGNS: u64 = u64::from_le_bytes([0x80; 8]);

/// Marks, in its highest bit, the first byte of a word that a string does not hold as it is: a quote, a backslash, a control
/// character. Bytes behind it may be marked falsely (Mycroft's test for a byte that is zero: a borrow goes upwards alone).
#[inline(always)]
fn special(word: u64) -> u64 {
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word;
    let quote = below(word ^ (ONES * u64::from(b'"')), 1);
    let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
    (quote | backslash | below(word, u64::from(b' '))) & SIGNS
}

/// A place at most sixteen bytes ahead of the next that is special, or of the end, and what was seen so far.
#[cfg(not(target_arch = "wasm32"))]
fn plain_end(text: &[u8], mut position: usize, mut seen: u64) -> (usize, u64) {
    let words = text.get(position..).unwrap_or_default().as_chunks::<8>().0;
    for word in words.iter().map(|word| u64::from_le_bytes(*word)) {
        if special(word) != 0 {
            break;
        }
        seen |= word;
        position += 8;
    }
    (position, seen)
}

#[cfg(target_arch = "wasm32")]
#[target_feature(enable = "simd128")]
fn plain_end(text: &[u8], mut position: usize, seen: u64) -> (usize, u64) {
    use core::arch::wasm32::{
        i8x16_eq, i8x16_splat, i64x2_extract_lane, u8x16_lt, u8x16_splat, u64x2, v128_any_true,
        v128_or,
    };
    let (quote, backslash, space) = (i8x16_splat(0x22), i8x16_splat(0x5c), u8x16_splat(b' '));
    let mut all = u64x2(seen, 0);
    let chunks = text
        .get(position..)
        .unwrap_or_default()
        .as_chunks::<8>()
        .0
        .as_chunks::<2>()
        .0;
    for [low, high] in chunks {
        let chunk = u64x2(u64::from_le_bytes(*low), u64::from_le_bytes(*high));
        let marks = v128_or(i8x16_eq(chunk, quote), i8x16_eq(chunk, backslash));
        if v128_any_true(v128_or(marks, u8x16_lt(chunk, space))) {
            break;
        }
        all = v128_or(all, chunk);
        position += 16;
    }
    let seen = i64x2_extract_lane::<0>(all) | i64x2_extract_lane::<1>(all);
    (position, seen.cast_unsigned())
}

/// As `special`, the first byte that is no digit.
#[inline(always)]
fn no_digit(word: u64) -> u64 {
    let value = word ^ (ONES * u64::from(b'0'));
    (value.wrapping_add(ONES * (0x80 - 10)) | value) & SIGNS
}

#[inline(always)]
fn digits_end(mut here: Here<'_>) -> usize {
    loop {
        let marks = no_digit(here.word());
        if marks != 0 {
            return here.position + marks.trailing_zeros() as usize / 8;
        }
        here.position += 8;
    }
}

/// Behind what follows the whole part of a number.
#[cold]
fn fraction_end(mut here: Here<'_>) -> Result<usize, Error> {
    if here.byte() == b'.' {
        here.position += 1;
        here.digits()?;
    }
    if matches!(here.byte(), b'e' | b'E') {
        here.position += 1;
        here.position += usize::from(matches!(here.byte(), b'+' | b'-'));
        here.digits()?;
    }
    Ok(here.position)
}

/// The bytes from a place near the end, and zeroes.
fn last_word(text: &[u8], position: usize) -> u64 {
    let bytes = text.get(position..).unwrap_or_default().iter().rev();
    bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn space_end(text: &[u8], position: usize) -> usize {
    let is_space = |byte: &&u8| matches!(**byte, b' ' | b'\n' | b'\r' | b'\t');
    let rest = text.get(position..).unwrap_or_default();
    position + rest.iter().take_while(is_space).count()
}

fn literal_end(text: &[u8], position: usize) -> Result<usize, Error> {
    let rest = text.get(position..).unwrap_or_default();
    let literal = [&b"null"[..], b"true", b"false"]
        .into_iter()
        .find(|literal| rest.starts_with(literal));
    literal
        .map(|literal| position + literal.len())
        .ok_or(Error {
            expected: "a value",
            position,
        })
}

/// Behind the escape that begins here.
#[cold]
fn escape_end(text: &[u8], position: usize) -> Result<usize, Error> {
    let length = match text.get(position + 1..).unwrap_or_default() {
        [b'u', digits @ ..] => {
            let is_whole = digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit);
            is_whole.then_some(6)
        }
        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(2),
        _ => None,
    };
    length.map(|length| position + length).ok_or(Error {
        expected: "an escape that JSON has",
        position,
    })
}

/// A string's text from what stands between its quotes; `None` when a surrogate (RFC 8259, section 7) stands alone.
pub(super) fn unescaped(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let (kind, behind) = escape.split_at_checked(1)?;
        rest = behind;
        text.push(match kind {
            "b" => '\u{8}',
            "f" => '\u{c}',
            "n" => '\n',
            "r" => '\r',
            "t" => '\t',
            "u" => {
                let first = unit(&mut rest)?;
                let second = match first {
                    0xd800..0xdc00 => Some(unit(&mut rest.strip_prefix("\\u")?)?),
                    _ => None,
                };
                rest = second.map_or(rest, |_| &rest[6..]);
                char::decode_utf16([first].into_iter().chain(second))
                    .next()?
                    .ok()?
            }
            _ => kind.chars().next()?,
        });
    }
    text.push_str(rest);
    Some(text)
}

/// Takes four hexadecimal digits.
fn unit(text: &mut &str) -> Option<u16> {
    let (digits, rest) = text.split_at_checked(4)?;
    *text = rest;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8]) -> Result<(), Error> {
        let mut scanner = Scanner::new(text);
        scanner.skip()?;
        scanner.end()
    }

    #[test]
    fn ends_are_found_at_every_place() {
        for length in 0..20 {
            for behind in 0..20 {
                let plain = "a#!]é".chars().cycle().take(length).collect::<String>();
                let text = format!("\"{plain}\"{}", "\"".repeat(behind));
                assert_eq!(
                    skip(Scanner::new(text.as_bytes()).here).unwrap().position,
                    plain.len() + 2
                );
                let text = format!("{}{}", "9".repeat(length + 1), "/:.\u{7f}é ".repeat(behind));
                assert_eq!(digits_end(Scanner::new(text.as_bytes()).here), length + 1);
                for special in ['\u{0}', '\u{1f}'] {
                    let text = format!("\"{plain}{special}{}", "\"".repeat(behind));
                    assert_eq!(
                        check(text.as_bytes()).unwrap_err().position,
                        plain.len() + 1
                    );
                }
            }
        }
    }

    #[test]
    fn errors_say_what_and_where() {
        for (text, error) in [
            ("", "a value is expected at byte 0"),
            (
                "[1 2]",
                "a comma, or the end of the array, is expected at byte 3",
            ),
            ("{\"a\" 1}", "a colon is expected at byte 5"),
            ("{,}", "a name is expected at byte 1"),
            ("\"\\x\"", "an escape that JSON has is expected at byte 1"),
            ("\"\n\"", "a closing quote is expected at byte 1"),
            ("1 x", "nothing more is expected at byte 2"),
            ("01", "nothing more is expected at byte 1"),
            ("-", "a digit is expected at byte 1"),
        ] {
            assert_eq!(
                check(text.as_bytes()).unwrap_err().to_string(),
                error,
                "{text}"
            );
        }
        assert_eq!(check(b"\"\xff\"").unwrap_err().position, 1);
    }

    #[test]
    fn depth_has_a_bound() {
        let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(MAX_DEPTH as usize).as_bytes()).is_ok());
        assert!(check(nested(MAX_DEPTH as usize + 1).as_bytes()).is_err());
    }

    #[test]
    fn escapes_are_read() {
        for (raw, text) in [
            (r#"a\"\\\/\b\f\n\r\tz"#, Some("a\"\\/\u{8}\u{c}\n\r\tz")),
            (r"caf\u00e9 \uD83D\ude00!", Some("café 😀!")),
            (r"\ud83d", None),
            (r"\ud83d\u0041", None),
            (r"\ude00\ud83d", None),
            (r"\ud83d\n", None),
        ] {
            assert_eq!(unescaped(raw).as_deref(), text, "{raw}");
            let other = serde_json::from_str::<String>(&format!("\"{raw}\""));
            assert_eq!(other.ok().as_deref(), text, "{raw}");
        }
    }

    /// Texts that are JSON, or nearly: pieces of it in any order, and changed bytes.
    #[test]
    fn the_same_texts_are_json_as_for_another_parser() {
        const PIECES: [&str; 24] = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"a\"",
            "\"\\u00e9\\n\"",
            "\"a longer name\"",
            "1",
            "-0.5e+3",
            "0",
            "true",
            "false",
            "null",
            " ",
            "\"",
            "\\",
            "e",
            ".",
            "\"é\"",
            "{\"a\":1}",
            "[1,2]",
            "\t\n",
        ];
        let mut state = 1_u64;
        let mut below = |bound: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        };
        let mut json = 0;
        for round in 0..200_000 {
            let mut text = if round % 2 == 0 {
                br#"{"a":[1,-2.5e3,{"b c":"d\"e\u12aF"}], "long enough":null,"f":{"g":[true,false,[]]} }"#.to_vec()
            } else {
                (0..below(6))
                    .map(|_| PIECES[below(PIECES.len())])
                    .collect::<String>()
                    .into_bytes()
            };
            for _ in 0..below(3).min(text.len()) {
                let at = below(text.len());
                match below(3) {
                    0 => text[at] = br#"{}[],:"\0e.- "#[below(13)],
                    1 => text[at] ^= 1 << below(8),
                    _ => drop(text.remove(at)),
                }
                if text.is_empty() {
                    break;
                }
            }
            let expected = std::str::from_utf8(&text)
                .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
            json += usize::from(expected);
            assert_eq!(
                check(&text).is_ok(),
                expected,
                "{}",
                String::from_utf8_lossy(&text)
            );
        }
        assert!(
            (20_000..180_000).contains(&json),
            "{json} of the texts were JSON"
        );
    }
}
