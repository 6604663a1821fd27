//! Finding and rewriting fields of JSON values without building a tree: what is found is a slice of the text, and what is not
//! rewritten is copied byte for byte. Behind the feature `json`.

use std::borrow::Cow;
use std::fmt;

mod rewrite;
mod scan;

use self::scan::{Scanner, unescaped};

pub use self::rewrite::rewrite;
pub use self::scan::Error;

/// The names on the way to a field, from the outermost object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path(Vec<String>);

impl Path {
    /// `customer.email`, or a JSON pointer (RFC 6901) such as `/customer/email`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<String> = match text.strip_prefix('/') {
            Some(pointer) => pointer
                .split('/')
                .map(|part| part.replace("~1", "/").replace("~0", "~"))
                .collect(),
            None => text.split('.').map(str::to_owned).collect(),
        };
        if parts.iter().any(String::is_empty) {
            return Err(format!("the field {text:?} has an empty part"));
        }
        Ok(Self(parts))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// The text of one value, checked to be JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value<'t>(&'t str);

impl<'t> Value<'t> {
    /// As it was written.
    pub fn text(self) -> &'t str {
        self.0
    }

    /// A string's text, or the JSON text of anything else.
    pub fn plain(self) -> Cow<'t, str> {
        let string = self.0.strip_prefix('"');
        match string.and_then(|text| text.strip_suffix('"')) {
            None => Cow::Borrowed(self.0),
            Some(raw) if !raw.contains('\\') => Cow::Borrowed(raw),
            // A lone surrogate is no text: then its spelling stands for it.
            Some(raw) => unescaped(raw).map_or(Cow::Borrowed(self.0), Cow::Owned),
        }
    }
}

/// The one value that the path leads to, in one pass; `None` for null, for what is not there, and for what is not JSON. Of
/// members of the same name the last counts, as in most parsers; arrays have no fields.
pub fn find<'t>(text: &'t [u8], path: &Path) -> Option<Value<'t>> {
    let mut scanner = Scanner::new(text);
    let found = descend(&mut scanner, &path.0).ok()?;
    scanner.end().ok()?;
    found.filter(|value| value.0 != "null")
}

fn descend<'t>(scanner: &mut Scanner<'t>, path: &[String]) -> Result<Option<Value<'t>>, Error> {
    let Some((next, rest)) = path.split_first() else {
        return scanner.value().map(|text| Some(Value(text)));
    };
    if scanner.peek() != b'{' {
        scanner.skip()?;
        return Ok(None);
    }
    scanner.open()?;
    let mut is_first = true;
    let mut found = None;
    while let Some(name) = scanner.next_member(&mut is_first)? {
        if name.is(next) {
            found = descend(scanner, rest)?;
        } else {
            scanner.skip()?;
        }
    }
    Ok(found)
}

/// Every value that the path leads to. Arrays on the way are gone through, element by element, and so are members of the same
/// name: nothing of the name is missed.
///
/// # Errors
/// When the text is not JSON.
pub fn at<'t>(text: &'t [u8], path: &Path) -> Result<Vec<Value<'t>>, Error> {
    let mut scanner = Scanner::new(text);
    let mut found = Vec::new();
    collect(&mut scanner, &path.0, &mut found)?;
    scanner.end()?;
    Ok(found)
}

fn collect<'t>(
    scanner: &mut Scanner<'t>,
    path: &[String],
    found: &mut Vec<Value<'t>>,
) -> Result<(), Error> {
    let Some((next, rest)) = path.split_first() else {
        found.push(Value(scanner.value()?));
        return Ok(());
    };
    let mut is_first = true;
    match scanner.peek() {
        b'{' => {
            scanner.open()?;
            while let Some(name) = scanner.next_member(&mut is_first)? {
                if name.is(next) {
                    collect(scanner, rest, found)?;
                } else {
                    scanner.skip()?;
                }
            }
        }
        b'[' => {
            scanner.open()?;
            while scanner.next_element(&mut is_first)? {
                collect(scanner, path, found)?;
            }
        }
        _ => scanner.skip()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_pass_search_and_the_thorough_one_agree_where_names_are_unique() {
        let value = br#" {"skip":[{"id":1}],"a":{"b/c":"x","n":12.50},"id":"top","z":null} "#;
        for (path, expected) in [
            ("a.n", Some("12.50")),
            ("/a/b~1c", Some("\"x\"")),
            ("id", Some("\"top\"")),
            ("id.x", None),
            ("a.missing", None),
        ] {
            let path = Path::parse(path).unwrap();
            assert_eq!(find(value, &path).map(Value::text), expected, "{path}");
            let all = at(value, &path).unwrap();
            assert_eq!(all.first().map(|value| value.text()), expected, "{path}");
        }
        assert!(find(value, &Path::parse("z").unwrap()).is_none());
        assert!(Path::parse("a..b").is_err() && Path::parse("").is_err());
    }

    #[test]
    fn the_thorough_search_misses_nothing_of_the_name() {
        let value = br#"[{"a":{"n":1}},{"a":[{"n":2},[{"\u006e":"3"}]],"a":{"n":4}},5]"#;
        let found = at(value, &Path::parse("a.n").unwrap()).unwrap();
        let texts: Vec<_> = found.iter().map(|value| value.plain()).collect();
        assert_eq!(texts, ["1", "2", "3", "4"]);
    }
}
