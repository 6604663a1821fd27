use super::*;
use crate::net::dev_certificate;

fn files(folder: &Path) -> ListenerTls {
    let made = dev_certificate::server(folder, &[]).unwrap();
    ListenerTls {
        certificate_file: made.certificate_file,
        key_file: made.key_file,
        client_auth: ClientAuth::Required,
        client_ca_file: Some(made.ca_file),
    }
}

fn load(files: &ListenerTls) -> Result<Arc<Certificates<ServerConfig>>, String> {
    Certificates::load("tls", files, Box::new(Ok))
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = files(folder.path());
    let other = tempfile::tempdir().unwrap();
    let foreign = files(other.path());
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let check = |change: &dyn Fn(&mut ListenerTls), named: &str, fault: &str| {
        let mut files = good.clone();
        change(&mut files);
        let told = load(&files).err().unwrap();
        assert!(told.contains(named) && told.contains(fault), "{told}");
    };
    check(
        &|files| files.certificate_file = "/nowhere.pem".into(),
        "/nowhere.pem",
        "No such file",
    );
    check(
        &|files| files.certificate_file = empty.clone(),
        "empty.pem",
        "no certificate",
    );
    check(
        &|files| files.key_file = empty.clone(),
        "empty.pem",
        "no private key",
    );
    check(
        &|files| files.key_file = foreign.key_file.clone(),
        "server.key",
        "do not go together",
    );
    check(
        &|files| files.client_ca_file = Some(empty.clone()),
        "empty.pem",
        "no certificate",
    );
    check(
        &|files| files.client_ca_file = None,
        "client_ca_file",
        "not set",
    );
    assert!(load(&good).is_ok());
}

#[test]
fn a_reload_takes_new_files_and_keeps_the_old_ones_when_they_are_bad() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let certificates = load(&files).unwrap();
    let first = certificates.current.load_full();
    certificates.reload_if_changed();
    assert!(Arc::ptr_eq(&first, &certificates.current.load_full()));

    fs::write(&files.key_file, "half written").unwrap();
    certificates.reload_if_changed();
    assert!(certificates.reload().unwrap_err().contains("server.key"));
    assert!(Arc::ptr_eq(&first, &certificates.current.load_full()));

    dev_certificate::server(folder.path(), &["other.example".into()]).unwrap();
    certificates.reload_if_changed();
    assert!(!Arc::ptr_eq(&first, &certificates.current.load_full()));
}
