//! The life of a deployment.

use std::collections::BTreeMap;
use std::fs;

use tidegate::plugin::{BatchOrigin, DeployError, FailureKind, OnPoison, Transformed};

use crate::support::{Fixture, pair, terms};

fn files(fixture: &Fixture, extension: &str) -> usize {
    let plugins = fs::read_dir(fixture.directory.path().join("plugins"));
    plugins.map_or(0, |files| {
        files
            .filter(|file| {
                let path = file.as_ref().unwrap().path();
                path.extension().is_some_and(|found| found == extension)
            })
            .count()
    })
}

#[test]
fn a_plugin_is_deployed_changed_rolled_back_and_removed_while_running() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.transform("m", &pair()),
        Err(FailureKind::NotDeployed)
    );
    let first = fixture.deploy("m", "hostile", &[("mode", "copy")]);
    assert_eq!((first.active, first.revisions.len()), (1, 1));
    assert_eq!(fixture.host.world("m").as_deref(), Some("transform"));

    let again = fixture.deploy("m", "hostile", &[("mode", "copy")]);
    assert_eq!(again, first, "the same again changes nothing");

    let second = fixture.deploy("m", "hostile", &[("mode", "refuse")]);
    assert_eq!((second.active, second.revisions.len()), (2, 2));
    assert!(fixture.transform("m", &pair()).is_err());

    let back = fixture.host.rollback("m", None).unwrap();
    assert_eq!((back.active, back.revisions.len()), (1, 2));
    assert!(fixture.transform("m", &pair()).is_ok());
    assert_eq!(fixture.host.rollback("m", Some(2)).unwrap().active, 2);
    assert!(fixture.transform("m", &pair()).is_err());
    assert!(matches!(
        fixture.host.rollback("m", Some(7)),
        Err(DeployError::MissingRevision(_, 7))
    ));

    let users = &fixture.store.users;
    users
        .lock()
        .unwrap()
        .insert("m".into(), "topic orders".into());
    let refusal = fixture.host.remove("m").unwrap_err();
    assert_eq!(refusal.to_string(), "plugin m is in use by topic orders");
    users.lock().unwrap().clear();
    fixture.host.remove("m").unwrap();
    assert!(fixture.host.list().is_empty());
    assert_eq!(files(&fixture, "wasm"), 0);
    assert!(matches!(
        fixture.host.remove("m"),
        Err(DeployError::Missing(_))
    ));
}

#[test]
fn deployed_plugins_are_there_after_a_restart_with_the_revision_that_was_active() {
    let mut fixture = Fixture::new();
    fixture.deploy("m", "hostile", &[("mode", "copy")]);
    fixture.deploy("m", "hostile", &[("mode", "refuse")]);
    fixture.host.rollback("m", None).unwrap();
    fixture.reopen();
    assert_eq!(fixture.host.list()[0].active, 1);
    assert!(matches!(
        fixture.transform("m", &pair()),
        Ok(Transformed::Replaced(_))
    ));
    assert_eq!(fixture.host.rollback("m", Some(2)).unwrap().active, 2);
}

#[test]
fn a_damaged_component_fails_its_own_calls_and_nothing_else() {
    let mut fixture = Fixture::new();
    let entry = fixture.deploy("m", "hostile", &[("mode", "copy")]);
    fixture.deploy("good", "identity", &[]);
    let digest = &entry.revisions[0].digest;
    let file = fixture
        .directory
        .path()
        .join("plugins")
        .join(format!("{digest}.wasm"));
    let mut component = fs::read(&file).unwrap();
    component[100] ^= 1;
    fs::write(&file, component).unwrap();
    fixture.reopen();
    let failure = fixture.transform("m", &pair()).unwrap_err();
    assert!(failure.to_string().contains("is damaged"), "{failure}");
    assert!(fixture.host.status()[1].unavailable.is_some());
    assert_eq!(
        fixture.transform("good", &pair()),
        Ok(Transformed::Unchanged)
    );
    fixture.deploy("m", "hostile", &[("mode", "copy")]);
    assert!(
        fixture.transform("m", &pair()).is_ok(),
        "a new deployment mends it"
    );
}

#[test]
fn old_revisions_and_their_files_go_when_there_are_too_many() {
    let fixture = Fixture::new();
    fixture.deploy("m", "identity", &[]);
    for number in 0..8 {
        let number = number.to_string();
        fixture.deploy("m", "hostile", &[("mode", "copy"), ("n", &number)]);
    }
    let entry = &fixture.host.list()[0];
    let kept: Vec<_> = entry.revisions.iter().map(|kept| kept.revision).collect();
    assert_eq!(kept, [2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(files(&fixture, "wasm"), 1);
}

#[test]
fn a_rollback_compiles_nothing() {
    let fixture = Fixture::new();
    fixture.deploy("m", "identity", &[]);
    fixture.deploy("m", "hostile", &[("mode", "copy")]);
    let compiled = |fixture: &Fixture| {
        let mut found = Vec::new();
        let mut folders = vec![fixture.directory.path().join("plugins/cache")];
        while let Some(folder) = folders.pop() {
            for file in fs::read_dir(folder).unwrap() {
                let path = file.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_none() {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    };
    let before = compiled(&fixture);
    assert_eq!(before.len(), 2);
    fixture.host.rollback("m", None).unwrap();
    assert_eq!(compiled(&fixture), before);
}

#[test]
fn a_plugin_serves_only_the_place_that_its_world_is_for() {
    let fixture = Fixture::new();
    fixture.deploy("m", "identity", &[]);
    let failure = fixture.assign("m", &pair()).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "is a transform, which cannot be used here"
    );
    let origin = BatchOrigin {
        topic: "t",
        partition: 0,
        partition_count: 1,
        base_sequence: None,
    };
    let missing = fixture
        .host
        .assign("x", &origin, &[], terms(OnPoison::Reject));
    let missing = missing.unwrap_err();
    assert_eq!(
        missing.to_string(),
        "plugin x (revision 0): is not deployed"
    );
    let refusal = fixture
        .try_deploy("m", "partition-by-field", &[("field", "a")])
        .unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("m is a transform and this is a partitioner"),
        "{refusal}"
    );
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let fixture = Fixture::new();
    let component = wat::parse_str(
        r#"(component
            (import "wasi:sockets/tcp@0.2.6" (instance))
            (import "tidegate:plugin/log@0.9.0" (instance)))"#,
    )
    .unwrap();
    let refusal = fixture
        .host
        .deploy("wrong name", &component, BTreeMap::new())
        .unwrap_err();
    let DeployError::Refused(reasons) = refusal else {
        panic!("{refusal}");
    };
    let wanted = [
        "the name \"wrong name\"",
        "it exports nothing",
        "it imports wasi:sockets/tcp@0.2.6",
    ];
    for part in wanted {
        assert!(
            reasons.iter().any(|reason| reason.contains(part)),
            "{part}: {reasons:?}"
        );
    }
    let wrong_setting = fixture
        .try_deploy("m", "partition-by-field", &[("feild", "a")])
        .unwrap_err();
    assert!(
        wrong_setting
            .to_string()
            .contains("there is no setting \"feild\""),
        "{wrong_setting}"
    );
}

#[test]
fn a_host_without_plugins_has_no_engine() {
    let mut fixture = Fixture::new();
    fixture.reopen();
    assert!(!fixture.directory.path().join("plugins").exists());
}
