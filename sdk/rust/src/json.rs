//! Finding and rewriting fields of JSON values without building a tree: what is found is a slice of the text, and what is not
//! rewritten is copied byte for byte. Behind the feature `json`.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

pub use serde_json::Error;
pub use serde_json::value::RawValue;

/// Arrays within arrays are gone through to this depth; a deeper text is refused.
const MAX_ARRAYS: usize = 32;

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

/// A whole value, checked to be JSON.
pub fn parse(value: &[u8]) -> Result<&RawValue, Error> {
    serde_json::from_slice(value)
}

/// A string's text, or the JSON text of anything else.
pub fn plain(raw: &RawValue) -> Cow<'_, str> {
    let text = raw.get();
    match text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    {
        None => Cow::Borrowed(text),
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        // A lone surrogate is no text: then its spelling stands for it.
        Some(_) => serde_json::from_str(text).map_or(Cow::Borrowed(text), Cow::Owned),
    }
}

/// The one value that the path leads to, in one pass; `None` for null, for what is not there, and for what is not JSON. Of
/// members of the same name the last counts, as in most parsers; arrays have no fields.
pub fn find<'v>(value: &'v [u8], path: &Path) -> Option<&'v RawValue> {
    let mut json = serde_json::Deserializer::from_slice(value);
    let raw = Descend(&path.0).deserialize(&mut json).ok()??;
    json.end().ok()?;
    (raw.get() != "null").then_some(raw)
}

/// Walks down to one value and skips all others, without building anything.
struct Descend<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Descend<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            serde::Deserialize::deserialize(json).map(Some)
        } else {
            json.deserialize_any(self)
        }
    }
}

/// Whether a member has this name. Nothing is kept of it.
struct IsName<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// What has no members has no field.
macro_rules! no_field {
    ($($visit:ident: $type:ty),*) => {$(
        fn $visit<E>(self, _: $type) -> Result<Self::Value, E> { Ok(None) }
    )*};
}

impl<'de> Visitor<'de> for Descend<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        // Of members of the same name the last counts, as in most parsers.
        while let Some(is_next) = map.next_key_seed(IsName(&self.0[0]))? {
            if is_next {
                found = map.next_value_seed(Descend(&self.0[1..]))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    no_field!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// An object's members (with their names as written) or an array's elements (without).
struct Items<'t>(Vec<(Option<&'t RawValue>, &'t RawValue)>);

impl<'t> Items<'t> {
    /// `None` for what is neither an object nor an array.
    fn of(text: &'t str) -> Result<Option<Self>, Error> {
        let mut json = serde_json::Deserializer::from_str(text);
        match text.as_bytes().first() {
            Some(b'{') => json.deserialize_map(Collect(PhantomData)).map(Some),
            Some(b'[') => json.deserialize_seq(Collect(PhantomData)).map(Some),
            _ => Ok(None),
        }
    }
}

struct Collect<'t>(PhantomData<&'t str>);

impl<'t> Visitor<'t> for Collect<'t> {
    type Value = Items<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some((name, value)) = map.next_entry()? {
            items.push((Some(name), value));
        }
        Ok(Items(items))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(value) = array.next_element()? {
            items.push((None, value));
        }
        Ok(Items(items))
    }
}

/// A member's name, however its letters are escaped.
fn name_of(raw: &RawValue) -> Result<Cow<'_, str>, Error> {
    let quoted = raw.get();
    match quoted.get(1..quoted.len().saturating_sub(1)) {
        Some(name) if !name.contains('\\') => Ok(Cow::Borrowed(name)),
        _ => serde_json::from_str(quoted).map(Cow::Owned),
    }
}

/// Where a slice lies in the text that it was cut from.
fn start(text: &str, part: &RawValue) -> usize {
    part.get().as_ptr() as usize - text.as_ptr() as usize
}

fn deeper(arrays: usize) -> Result<usize, Error> {
    if arrays == MAX_ARRAYS {
        return Err(Error::custom(format!(
            "arrays are nested more than {MAX_ARRAYS} deep"
        )));
    }
    Ok(arrays + 1)
}

/// Every value that the path leads to. Arrays on the way are gone through, element by element, and so are members of the same
/// name: nothing of the name is missed.
pub fn at<'t>(text: &'t RawValue, path: &Path) -> Result<Vec<&'t RawValue>, Error> {
    let mut found = Vec::new();
    collect(text, &path.0, 0, &mut found)?;
    Ok(found)
}

fn collect<'t>(
    value: &'t RawValue,
    path: &[String],
    arrays: usize,
    found: &mut Vec<&'t RawValue>,
) -> Result<(), Error> {
    let Some((next, rest)) = path.split_first() else {
        found.push(value);
        return Ok(());
    };
    for (name, value) in Items::of(value.get())?.map_or_else(Vec::new, |items| items.0) {
        match name {
            None => collect(value, path, deeper(arrays)?, found)?,
            Some(name) if name_of(name)? == *next => {
                collect(value, rest, 0, found)?;
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// What is to be done at the end of a path, of which the names so far are behind.
type Rule<'p, A> = (&'p [String], A);

/// Writes the text to `out` and says whether it is another. Each value that a path leads to (as with [`at`]) is what `replace`
/// makes of it; `None` removes it with its name. Of several paths to the same value the first counts.
pub fn rewrite<A: Copy>(
    text: &RawValue,
    fields: &[(Path, A)],
    out: &mut String,
    replace: &dyn Fn(A, &RawValue) -> Option<String>,
) -> Result<bool, Error> {
    let rules: Vec<Rule<'_, A>> = fields
        .iter()
        .map(|(path, action)| (path.0.as_slice(), *action))
        .collect();
    Writer { out, replace }.value(text, &rules, 0)
}

struct Writer<'w, A> {
    out: &'w mut String,
    replace: &'w dyn Fn(A, &RawValue) -> Option<String>,
}

impl<A: Copy> Writer<'_, A> {
    fn value(
        &mut self,
        value: &RawValue,
        rules: &[Rule<'_, A>],
        arrays: usize,
    ) -> Result<bool, Error> {
        let text = value.get();
        let items = if rules.is_empty() {
            None
        } else {
            Items::of(text)?
        };
        let Some(Items(items)) = items else {
            self.out.push_str(text);
            return Ok(false);
        };
        let mut changed = false;
        let mut written = false;
        let mut end = 0;
        for (position, (name, item)) in items.iter().enumerate() {
            let (before, head) = (start(text, name.unwrap_or(item)), start(text, item));
            let separator = &text[end..before];
            end = head + item.get().len();
            // Ahead of the first item stands the bracket. A comma is written only after something that was.
            if position == 0 {
                self.out.push_str(separator);
            }
            let (rule, below) = match name {
                None => (None, rules.to_vec()),
                Some(name) => select(rules, &name_of(name)?),
            };
            let new = rule.map(|action| (self.replace)(action, item));
            changed |= new.is_some();
            if new == Some(None) {
                continue;
            }
            if written {
                self.out.push_str(separator);
            }
            written = true;
            self.out.push_str(&text[before..head]);
            match new.flatten() {
                Some(new) => self.out.push_str(&new),
                None if name.is_none() => changed |= self.value(item, &below, deeper(arrays)?)?,
                None => changed |= self.value(item, &below, 0)?,
            }
        }
        self.out.push_str(&text[end..]);
        Ok(changed)
    }
}

/// What the rules say of a member: what to do with it, or else which of them go on below it.
fn select<'p, A: Copy>(rules: &[Rule<'p, A>], name: &str) -> (Option<A>, Vec<Rule<'p, A>>) {
    let below: Vec<Rule<'p, A>> = rules
        .iter()
        .filter(|(path, _)| path[0] == name)
        .map(|(path, action)| (&path[1..], *action))
        .collect();
    let here = below.iter().find(|(path, _)| path.is_empty());
    (here.map(|(_, action)| *action), below)
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
            assert_eq!(find(value, &path).map(RawValue::get), expected, "{path}");
            let all = at(parse(value).unwrap(), &path).unwrap();
            assert_eq!(all.first().map(|raw| raw.get()), expected, "{path}");
        }
        assert!(find(value, &Path::parse("z").unwrap()).is_none());
        assert!(Path::parse("a..b").is_err() && Path::parse("").is_err());
    }

    #[test]
    fn removing_is_valid_at_every_place() {
        let fields = |names: &[&str]| -> Vec<(Path, ())> {
            names
                .iter()
                .map(|name| (Path::parse(name).unwrap(), ()))
                .collect()
        };
        for (names, expected) in [
            (["a", "b"], r#"{ "c":[{}, 3] }"#),
            (["b", "c"], r#"{ "a":1 }"#),
            (["a", "c.d"], r#"{ "b":2, "c":[{}, 3] }"#),
        ] {
            let text = parse(br#"{ "a":1, "b":2, "c":[{"d":1}, 3] }"#).unwrap();
            let mut out = String::new();
            let fields: Vec<_> = fields(&names).into_iter().chain(fields(&["c.d"])).collect();
            assert!(rewrite(text, &fields, &mut out, &|(), _| None).unwrap());
            assert_eq!(out, expected);
        }
    }
}
