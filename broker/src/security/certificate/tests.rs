use super::*;

fn rules(rules: &[&str]) -> Result<PrincipalRules, String> {
    PrincipalRules::parse(&rules.iter().map(ToString::to_string).collect::<Vec<_>>())
}

#[test]
fn the_first_rule_that_matches_the_whole_subject_names_the_user() {
    let full = "CN=Alice,OU=Search,O=Example,C=DE";
    for (given, subject, expected) in [
        (&[][..], full, Ok(full)),
        (&["DEFAULT"], full, Ok(full)),
        (&["RULE:^CN=(.*?),.*$/$1/"], full, Ok("Alice")),
        (&["RULE:CN=(.*?),.*/$1/L"], full, Ok("alice")),
        (&["RULE:CN=(.*?),.*/$1/U"], full, Ok("ALICE")),
        (
            &["RULE:CN=(.*?),OU=(.*?),.*/$1@$2/L"],
            full,
            Ok("alice@search"),
        ),
        // The whole subject must match, not a part of it.
        (&["RULE:CN=(.*?),/$1/", "DEFAULT"], full, Ok(full)),
        (
            &["RULE:CN=(\\w+),OU=Other.*/$1/", "RULE:CN=(\\w+).*/u-$1/"],
            full,
            Ok("u-Alice"),
        ),
        (&["RULE:CN=(.*?),OU=Other.*/$1/"], full, Err("no rule")),
        (&["RULE:CN=(.*)/$1/"], "CN=", Err("empty user name")),
        (&[], "", Err("empty user name")),
        // A second digit that names no group is text, as in Java.
        (&["RULE:CN=(.*?),.*/$10/"], full, Ok("Alice0")),
        (&["RULE:CN=(.*?),.*/\\$1\\/x/"], full, Ok("$1/x")),
        (&["RULE:CN=a\\/(.*)/$1/"], "CN=a/b", Ok("b")),
    ] {
        let result = rules(given).unwrap().principal_of_subject(subject);
        match (result, expected) {
            (Ok(principal), Ok(name)) => assert_eq!(principal, Principal::user(name), "{given:?}"),
            (Err(reason), Err(fault)) => assert!(reason.contains(fault), "{given:?}: {reason}"),
            (result, _) => panic!("{given:?} on {subject:?}: {result:?}"),
        }
    }
}

#[test]
fn a_rule_that_cannot_be_read_is_refused_with_its_fault() {
    for (rule, fault) in [
        ("", "expected DEFAULT"),
        ("default", "expected DEFAULT"),
        ("RULE:CN=(.*)", "expected DEFAULT"),
        ("RULE:CN=(.*)/$1", "expected DEFAULT"),
        ("RULE:CN=(.*)/$1/X", "expected DEFAULT"),
        ("RULE:CN=(.*/$1/", "unclosed group"),
        ("RULE:CN=(.*)/$2/", "1 groups"),
        ("RULE:CN=(.*)/$/", "group's number"),
    ] {
        let reason = rules(&[rule]).unwrap_err();
        assert!(
            reason.contains(fault) && reason.contains("principal rule"),
            "{rule}: {reason}"
        );
    }
}

fn certificate(parts: &[(rcgen::DnType, rcgen::DnValue)]) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in parts {
        params.distinguished_name.push(kind.clone(), value.clone());
    }
    let key = rcgen::KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

#[test]
fn the_subject_is_written_as_java_writes_it() {
    use rcgen::{DnType, DnValue};
    let text = |text: &str| DnValue::Utf8String(text.into());
    let email = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
    for (parts, expected) in [
        (
            vec![
                (
                    DnType::CountryName,
                    DnValue::PrintableString("DE".try_into().unwrap()),
                ),
                (DnType::OrganizationName, text("Example")),
                (DnType::CommonName, text("alice")),
            ],
            "CN=alice,O=Example,C=DE",
        ),
        (
            vec![(DnType::CommonName, text(" Smith, \"A+B\" "))],
            "CN=\\ Smith\\, \\\"A\\+B\\\"\\ ",
        ),
        (
            vec![(email, DnValue::Ia5String("a@b".try_into().unwrap()))],
            "1.2.840.113549.1.9.1=#1603614062",
        ),
    ] {
        let principal = PrincipalRules::default()
            .principal(&certificate(&parts))
            .unwrap();
        assert_eq!(&*principal.name, expected);
    }
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let reason = PrincipalRules::default()
        .principal(b"nonsense")
        .unwrap_err();
    assert!(reason.contains("cannot be read"), "{reason}");
    let mut torn = certificate(&[]);
    torn.truncate(torn.len() / 2);
    assert!(PrincipalRules::default().principal(&torn).is_err());
}
