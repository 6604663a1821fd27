//! Changing fields of a text where they stand.

use std::borrow::Cow;

use super::scan::{Error, Name, Scanner};
use super::{Path, Value};

/// What is to be done at the end of a path, of which the names so far are behind.
type Rule<'p, A> = (&'p [String], A);

/// The text with each value that a path leads to (as with [`at`](super::at)) replaced by what `replace` makes of it; `None` of
/// it removes the value with its name. Of several paths to the same value the first counts. Everything else stays byte for
/// byte; a text that stays whole is not written anew: `None`.
///
/// # Errors
/// When the text is not JSON.
pub fn rewrite<A: Copy>(
    text: &[u8],
    fields: &[(Path, A)],
    mut replace: impl FnMut(A, Value<'_>) -> Option<Cow<'static, str>>,
) -> Result<Option<Vec<u8>>, Error> {
    let rules: Vec<Rule<'_, A>> = fields
        .iter()
        .map(|(path, action)| (path.0.as_slice(), *action))
        .collect();
    let mut rewriter = Rewriter {
        scanner: Scanner::new(text),
        new: None,
        copied: 0,
        replace: &mut replace,
    };
    rewriter.value(&rules)?;
    rewriter.scanner.end()?;
    Ok(rewriter.finish())
}

struct Rewriter<'t, 'r, A> {
    scanner: Scanner<'t>,
    /// From the first change on.
    new: Option<Vec<u8>>,
    /// Up to here the text is in `new`, or left out of it.
    copied: usize,
    replace: &'r mut dyn FnMut(A, Value<'_>) -> Option<Cow<'static, str>>,
}

impl<A: Copy> Rewriter<'_, '_, A> {
    /// The value ahead.
    fn value(&mut self, rules: &[Rule<'_, A>]) -> Result<(), Error> {
        match self.scanner.peek() {
            b'{' if !rules.is_empty() => self.object(rules),
            b'[' if !rules.is_empty() => {
                self.scanner.open()?;
                let mut is_first = true;
                while self.scanner.next_element(&mut is_first)? {
                    self.value(rules)?;
                }
                Ok(())
            }
            _ => self.scanner.skip(),
        }
    }

    fn object(&mut self, rules: &[Rule<'_, A>]) -> Result<(), Error> {
        self.scanner.open()?;
        let mut is_first = true;
        let mut any_stayed = false;
        // Where the member before ends.
        let mut end = None;
        while let Some(name) = self.scanner.next_member(&mut is_first)? {
            let (action, below) = select(rules, name);
            let new = match action {
                None => None,
                Some(action) => {
                    let value = Value(self.scanner.value()?);
                    let start = self.scanner.position() - value.0.len();
                    Some((start, (self.replace)(action, value)))
                }
            };
            if let Some((_, None)) = new {
                // With what separates it from the member before. The space behind the bracket stays.
                self.cut(end.unwrap_or(name.start), self.scanner.position());
            } else {
                if let Some(end) = end.filter(|_| !any_stayed) {
                    self.cut(end, name.start);
                }
                any_stayed = true;
                match new {
                    Some((start, Some(new))) => {
                        self.cut(start, self.scanner.position())
                            .extend_from_slice(new.as_bytes());
                    }
                    _ => self.value(&below)?,
                }
            }
            end = Some(self.scanner.position());
        }
        Ok(())
    }

    /// Leaves out a part of the text behind all that was left out before. What stands in its place may be added.
    fn cut(&mut self, from: usize, to: usize) -> &mut Vec<u8> {
        let text = self.scanner.text();
        let new = self
            .new
            .get_or_insert_with(|| Vec::with_capacity(text.len()));
        new.extend_from_slice(&text[self.copied..from]);
        self.copied = to;
        new
    }

    fn finish(self) -> Option<Vec<u8>> {
        let mut new = self.new?;
        new.extend_from_slice(&self.scanner.text()[self.copied..]);
        Some(new)
    }
}

/// What the rules say of a member: what to do with it, or else which of them go on below it.
fn select<'p, A: Copy>(rules: &[Rule<'p, A>], name: Name<'_>) -> (Option<A>, Vec<Rule<'p, A>>) {
    let below: Vec<Rule<'p, A>> = rules
        .iter()
        .filter(|(path, _)| name.is(&path[0]))
        .map(|(path, action)| (&path[1..], *action))
        .collect();
    let here = below.iter().find(|(path, _)| path.is_empty());
    (here.map(|(_, action)| *action), below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(names: &[&str]) -> Vec<(Path, ())> {
        names
            .iter()
            .map(|name| (Path::parse(name).unwrap(), ()))
            .collect()
    }

    #[test]
    fn removing_is_valid_at_every_place() {
        for (names, expected) in [
            (["a", "b", "c.d"], r#"{ "c":[{}, 3] }"#),
            (["b", "c", "c.d"], r#"{ "a":1 }"#),
            (["a", "c.d", "x"], r#"{ "b":2, "c":[{}, 3] }"#),
            (["a", "b", "c"], "{  }"),
        ] {
            let text = br#"{ "a":1, "b":2, "c":[{"d":1}, 3] }"#;
            let new = rewrite(text, &fields(&names), |(), _| None).unwrap();
            assert_eq!(new.unwrap(), expected.as_bytes());
        }
    }

    #[test]
    fn what_stays_behind_something_removed_is_changed_too() {
        let fields = [
            (Path::parse("a").unwrap(), None),
            (Path::parse("b").unwrap(), Some("0")),
            (Path::parse("c.d").unwrap(), Some("null")),
        ];
        let text = br#"{"a":1 , "b":{"x":2} , "c":{ "d":"y" }, "e":[]}"#;
        let new = rewrite(text, &fields, |action, _| action.map(Cow::Borrowed));
        let expected = r#"{"b":0 , "c":{ "d":null }, "e":[]}"#;
        assert_eq!(new.unwrap().unwrap(), expected.as_bytes());
    }

    #[test]
    fn what_no_path_leads_to_is_left_alone_and_checked() {
        let keep = |text: &str| rewrite(text.as_bytes(), &fields(&["a"]), |(), _| None);
        assert_eq!(keep(r#" {"b":{"a":1}} "#), Ok(None));
        assert_eq!(keep("7"), Ok(None));
        for text in [r#"{"a":1"#, r#"{"a":1} x"#, r#"{"a":1,}"#, ""] {
            assert!(keep(text).is_err(), "{text}");
        }
    }
}
