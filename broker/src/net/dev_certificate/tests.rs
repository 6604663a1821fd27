use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::security::certificate::PrincipalRules;

#[test]
fn a_server_certificate_is_made_once_and_its_keys_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let files = server(folder.path(), &[]).unwrap();
    let before = fs::read(&files.certificate_file).unwrap();
    for key in [&files.key_file, &folder.path().join("ca.key")] {
        assert_eq!(
            fs::metadata(key).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    assert_eq!(server(folder.path(), &[]).unwrap(), files);
    assert_eq!(fs::read(&files.certificate_file).unwrap(), before);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn a_certificate_that_does_not_serve_is_made_anew_under_the_same_ca() {
    let folder = tempfile::tempdir().unwrap();
    let files = server(folder.path(), &[]).unwrap();
    let ca = fs::read(&files.ca_file).unwrap();
    let check = |names: &[String]| {
        let before = fs::read(&files.certificate_file).unwrap();
        server(folder.path(), names).unwrap();
        assert_ne!(fs::read(&files.certificate_file).unwrap(), before);
        assert_eq!(fs::read(&files.ca_file).unwrap(), ca);
        let names: Vec<String> = names.iter().cloned().chain(["::1".into()]).collect();
        assert!(serves(&files, &names));
    };
    check(&["broker.example".into(), "10.1.2.3".into()]);
    fs::write(&files.certificate_file, "torn").unwrap();
    check(&[]);
    let other = tempfile::tempdir().unwrap();
    let foreign = server(other.path(), &[]).unwrap();
    fs::copy(&foreign.key_file, &files.key_file).unwrap();
    check(&[]);
    fs::copy(&foreign.certificate_file, &files.certificate_file).unwrap();
    fs::copy(&foreign.key_file, &files.key_file).unwrap();
    check(&[]);
}

#[test]
fn a_client_certificate_names_its_user() {
    let folder = tempfile::tempdir().unwrap();
    let files = client(folder.path(), "alice").unwrap();
    let leaf = certificates(&files.certificate_file).unwrap().remove(0);
    let rules = PrincipalRules::parse(&["RULE:CN=(.*)/$1/".into()]).unwrap();
    assert_eq!(&*rules.principal(&leaf).unwrap().name, "alice");
    for name in ["", "../alice", "a b", &"x".repeat(65)] {
        assert!(client(folder.path(), name).is_err(), "{name}");
    }
}
