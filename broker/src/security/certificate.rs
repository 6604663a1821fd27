//! From a client certificate to a principal, by rules.
//!
//! The *subject* is the certificate's distinguished name written as RFC 2253 wants it and Java's
//! `X500Principal.getName()` writes it (`CN=alice,OU=search,O=Example`), so that rules written for Kafka's brokers
//! (`ssl.principal.mapping.rules`) mean the same here. A rule must match the whole subject. Whether the certificate is to be
//! trusted was decided before, by TLS.

use regex::{Captures, Regex};
use x509_parser::asn1_rs::{Any, ToDer};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::types::Principal;

/// Attribute types that are written by keyword; all others by object identifier and hexadecimal value (RFC 2253 §2.3, §2.4).
const KEYWORDS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// Rules in Kafka's own form (`ssl.principal.mapping.rules`): `RULE:pattern/replacement/[LU]` or `DEFAULT`, first match wins.
/// No rules at all mean `DEFAULT`: the whole subject.
#[derive(Clone, Debug, Default)]
pub struct PrincipalRules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
enum Rule {
    Default,
    Rewrite {
        pattern: Regex,
        replacement: Vec<Piece>,
        case: Case,
    },
}

/// A piece of a replacement.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Group(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Case {
    Kept,
    Lower,
    Upper,
}

impl PrincipalRules {
    /// Errs with the rule and what is wrong in it.
    pub fn parse(rules: &[String]) -> Result<Self, String> {
        let parse = |rule: &String| {
            Rule::parse(rule.trim()).map_err(|fault| format!("principal rule {rule:?}: {fault}"))
        };
        let rules = rules.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// The principal of a verified certificate (DER of the leaf). Errs when no rule matches or the name would be empty.
    pub fn principal(&self, certificate: &[u8]) -> Result<Principal, String> {
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(certificate)
            .map_err(|fault| format!("client certificate cannot be read: {fault}"))?;
        self.principal_of_subject(&subject(certificate.subject())?)
    }

    fn principal_of_subject(&self, subject: &str) -> Result<Principal, String> {
        let name = if self.rules.is_empty() {
            Some(subject.to_string())
        } else {
            self.rules.iter().find_map(|rule| rule.apply(subject))
        };
        match name {
            Some(name) if name.is_empty() => Err(format!(
                "client certificate with subject {subject:?} leads to an empty user name: give it a subject or mend security.principal_rules"
            )),
            Some(name) => Ok(Principal::user(&name)),
            None => Err(format!(
                "no rule of security.principal_rules matches the subject {subject:?} (add DEFAULT to take the whole subject)"
            )),
        }
    }
}

impl Rule {
    fn parse(rule: &str) -> Result<Self, String> {
        if rule == "DEFAULT" {
            return Ok(Self::Default);
        }
        let form =
            "expected DEFAULT or RULE:pattern/replacement/ with an optional L or U at the end";
        let body = rule.strip_prefix("RULE:").ok_or(form)?;
        let (pattern, rest) = split_at_slash(body).ok_or(form)?;
        let (replacement, flag) = split_at_slash(rest).ok_or(form)?;
        let case = match flag {
            "" => Case::Kept,
            "L" => Case::Lower,
            "U" => Case::Upper,
            _ => return Err(form.into()),
        };
        let pattern = Regex::new(&format!("^(?:{pattern})$")).map_err(|fault| fault.to_string())?;
        let replacement = parse_replacement(replacement, pattern.captures_len() - 1)?;
        Ok(Self::Rewrite {
            pattern,
            replacement,
            case,
        })
    }

    /// The user name, or `None` when the rule does not match.
    fn apply(&self, subject: &str) -> Option<String> {
        match self {
            Self::Default => Some(subject.to_string()),
            Self::Rewrite {
                pattern,
                replacement,
                case,
            } => {
                let name = expand(replacement, &pattern.captures(subject)?);
                Some(match case {
                    Case::Kept => name,
                    Case::Lower => name.to_lowercase(),
                    Case::Upper => name.to_uppercase(),
                })
            }
        }
    }
}

/// Splits at the first slash that no backslash precedes.
fn split_at_slash(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '/' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

/// `$1` is a group, `\x` is x itself; as in Java a group's number takes as many digits as still name a group.
fn parse_replacement(text: &str, groups: usize) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => literal.push(
                characters
                    .next()
                    .ok_or("the replacement ends in a backslash")?,
            ),
            '$' => {
                let digit = |character: &char| character.to_digit(10).map(|digit| digit as usize);
                let mut group = characters
                    .next()
                    .as_ref()
                    .and_then(digit)
                    .ok_or("a $ in the replacement must be followed by a group's number")?;
                while let Some(longer) = characters.peek().and_then(digit) {
                    let longer = group * 10 + longer;
                    if longer > groups {
                        break;
                    }
                    group = longer;
                    characters.next();
                }
                if group > groups {
                    return Err(format!("${group}: the pattern has {groups} groups"));
                }
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Group(group));
            }
            other => literal.push(other),
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

fn expand(replacement: &[Piece], captures: &Captures<'_>) -> String {
    let mut name = String::new();
    for piece in replacement {
        name.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Group(group) => captures.get(*group).map_or("", |group| group.as_str()),
        });
    }
    name
}

/// RFC 2253 §2.1: the last relative name first, apart by commas; the parts of one relative name apart by plus signs.
fn subject(name: &X509Name<'_>) -> Result<String, String> {
    let mut relative_names = Vec::new();
    for relative_name in name.iter_rdn() {
        let parts: Result<Vec<_>, _> = relative_name.iter().map(attribute).collect();
        relative_names.push(parts?.join("+"));
    }
    relative_names.reverse();
    Ok(relative_names.join(","))
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Result<String, String> {
    let identifier = attribute.attr_type().to_id_string();
    let keyword = KEYWORDS.iter().find(|(known, _)| *known == identifier);
    if let (Some((_, keyword)), Ok(text)) = (keyword, attribute.as_str()) {
        return Ok(format!("{keyword}={}", escape(text)));
    }
    let name = keyword.map_or(identifier.as_str(), |(_, keyword)| *keyword);
    Ok(format!("{name}=#{}", hexadecimal(attribute.attr_value())?))
}

/// RFC 2253 §2.4, with the characters that Java escapes.
fn escape(text: &str) -> String {
    let outer_space = |at: usize| at == 0 || at + 1 == text.len();
    let mut escaped = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        if ",=+<>#;\"\\".contains(character) || (character == ' ' && outer_space(at)) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

fn hexadecimal(value: &Any<'_>) -> Result<String, String> {
    let der = value
        .to_der_vec()
        .map_err(|fault| format!("client certificate's subject cannot be read: {fault}"))?;
    Ok(der.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
