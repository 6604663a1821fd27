use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::env::memory::MemoryDisk;
use crate::types::{Principal, TopicId};

fn topic(name: &str) -> Topic {
    Topic {
        id: TopicId(Uuid::new_v4()),
        name: name.into(),
        partitions: 3,
        internal: false,
        configs: BTreeMap::from([("retention.ms".into(), "1000".into())]),
        created_ms: 17,
        created_by: Some("User:alice".into()),
    }
}

fn acl(name: &str) -> Acl {
    Acl {
        resource_type: ResourceType::Topic,
        pattern_type: PatternType::Literal,
        resource_name: name.into(),
        principal: Principal::user("alice"),
        host: "*".into(),
        operation: Operation::Read,
        permission: Permission::Allow,
    }
}

fn user(name: &str) -> User {
    let verifier = ScramVerifier {
        salt: vec![1, 2, 3],
        iterations: 4096,
        stored_key: vec![4; 32],
        server_key: vec![5; 32],
    };
    User {
        name: name.into(),
        sha256: verifier.clone(),
        sha512: verifier,
    }
}

fn plugin(name: &str) -> PluginEntry {
    PluginEntry {
        name: name.into(),
        active: 1,
        revisions: vec![PluginRevision {
            revision: 1,
            digest: "ab".repeat(32),
            world: "partitioner".into(),
            config: BTreeMap::new(),
            deployed_ms: 5,
            size_bytes: 9,
        }],
    }
}

fn open(directory: &Path) -> Arc<Catalog> {
    Catalog::open(directory).expect("catalog opens")
}

fn message<T: std::fmt::Debug>(result: Result<T, CatalogError>) -> String {
    result.expect_err("refused").to_string()
}

#[test]
fn reopening_keeps_every_noun() {
    let directory = tempfile::tempdir().unwrap();
    let orders = topic("orders");
    {
        let catalog = open(directory.path());
        catalog.create_topic(orders.clone()).unwrap();
        catalog.create_topic(topic("gone")).unwrap();
        let gone = catalog.delete_topic("gone").unwrap();
        assert_eq!(catalog.deleted_topics().unwrap(), [gone.as_ref().clone()]);
        catalog.create_topic(topic("removed")).unwrap();
        let removed = catalog.delete_topic("removed").unwrap();
        catalog.forget_deleted_topic(removed.id).unwrap();
        catalog.set_partitions("orders", 7).unwrap();
        let configs = BTreeMap::from([("a".into(), "b".into())]);
        catalog.set_topic_configs("orders", configs).unwrap();
        catalog.add_acls(vec![acl("x"), acl("a")]).unwrap();
        catalog.put_user(user("alice")).unwrap();
        catalog.put_user(user("bob")).unwrap();
        catalog.delete_user("bob").unwrap();
        catalog.put_plugin(plugin("mask")).unwrap();
        catalog.put_plugin(plugin("route")).unwrap();
        catalog.delete_plugin("route").unwrap();
    }
    let catalog = open(directory.path());
    let expected = Topic {
        partitions: 7,
        configs: BTreeMap::from([("a".into(), "b".into())]),
        ..orders.clone()
    };
    assert_eq!(*catalog.topic("orders").unwrap(), expected);
    assert_eq!(*catalog.topic_by_id(orders.id).unwrap(), expected);
    assert_eq!(catalog.topics().len(), 1);
    assert_eq!(*catalog.acls(), vec![acl("a"), acl("x")]);
    assert_eq!(catalog.users(), vec!["alice"]);
    assert_eq!(*catalog.user("alice").unwrap(), user("alice"));
    assert_eq!(catalog.plugins(), vec![Arc::new(plugin("mask"))]);
    assert!(catalog.plugin("route").is_none());
}

#[test]
fn topics_are_listed_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = open(directory.path());
    for name in ["b", "a", "c"] {
        catalog.create_topic(topic(name)).unwrap();
    }
    let names: Vec<String> = catalog
        .topics()
        .iter()
        .map(|topic| topic.name.to_string())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn refusals_name_the_thing_and_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = open(directory.path());
    let orders = catalog.create_topic(topic("orders")).unwrap();
    let table: &[(&str, String)] = &[
        (
            "topic \"orders\" exists already",
            message(catalog.create_topic(topic("orders"))),
        ),
        (
            "exists already",
            message(catalog.create_topic(Topic {
                id: orders.id,
                ..topic("other")
            })),
        ),
        (
            "at least 1",
            message(catalog.create_topic(Topic {
                partitions: 0,
                ..topic("empty")
            })),
        ),
        (
            "topic \"nope\" does not exist",
            message(catalog.delete_topic("nope")),
        ),
        (
            "topic \"nope\" does not exist",
            message(catalog.set_topic_configs("nope", BTreeMap::new())),
        ),
        (
            "only be given more, not 3",
            message(catalog.set_partitions("orders", 3)),
        ),
        (
            "user \"nope\" does not exist",
            message(catalog.delete_user("nope")),
        ),
        (
            "plugin \"nope\" does not exist",
            message(catalog.delete_plugin("nope")),
        ),
        (
            "at most 4096",
            message(catalog.create_topic(topic(&"x".repeat(5000)))),
        ),
        (
            "at most 1048576",
            message(catalog.set_topic_configs(
                "orders",
                BTreeMap::from([("k".into(), "v".repeat(MAX_VALUE_BYTES))]),
            )),
        ),
    ];
    for (expected, found) in table {
        assert!(found.contains(expected), "{found} lacks {expected}");
    }
    assert_eq!(catalog.topics(), vec![orders]);
}

#[test]
fn acls_are_added_all_or_none() {
    let directory = tempfile::tempdir().unwrap();
    {
        let catalog = open(directory.path());
        catalog.add_acls(vec![acl("kept")]).unwrap();
        let refused = catalog.add_acls(vec![acl("fine"), acl(&"x".repeat(5000))]);
        assert!(message(refused).contains("at most 4096"));
        assert_eq!(*catalog.acls(), vec![acl("kept")]);
    }
    assert_eq!(*open(directory.path()).acls(), vec![acl("kept")]);
}

#[test]
fn adding_an_acl_twice_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = open(directory.path());
    catalog.add_acls(vec![acl("a"), acl("a")]).unwrap();
    catalog.add_acls(vec![acl("a")]).unwrap();
    assert_eq!(*catalog.acls(), vec![acl("a")]);
}

#[test]
fn removing_acls_returns_what_was_removed_and_survives_reopening() {
    let directory = tempfile::tempdir().unwrap();
    {
        let catalog = open(directory.path());
        catalog
            .add_acls(vec![acl("a"), acl("b"), acl("c")])
            .unwrap();
        let held = catalog.acls();
        let removed = catalog
            .remove_acls(&|acl| acl.resource_name != "b")
            .unwrap();
        assert_eq!(removed, vec![acl("a"), acl("c")]);
        assert_eq!(held.len(), 3, "a reader's set stays as it was");
    }
    assert_eq!(*open(directory.path()).acls(), vec![acl("b")]);
}

#[test]
fn producer_ids_never_repeat_across_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = -1;
    for _ in 0..3 {
        let catalog = open(directory.path());
        for _ in 0..1_001 {
            let id = catalog.next_producer_id().unwrap();
            assert!(id > last, "{id} came after {last}");
            last = id;
        }
    }
}

#[test]
fn a_second_opener_is_told_who_holds_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(directory.path());
    let refused = message(Catalog::open(directory.path()));
    let expected = format!(
        "another tidegate process uses {}",
        directory.path().display()
    );
    assert!(refused.contains(&expected), "{refused}");
}

#[test]
fn a_damaged_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("catalog.redb");
    std::fs::write(&file, [0x5a; 20_000]).unwrap();
    let refused = message(Catalog::open(directory.path()));
    assert!(refused.contains(&file.display().to_string()), "{refused}");
    assert!(refused.contains("damaged"), "{refused}");
}

/// Wherever bytes are overwritten, opening either refuses with the file's name or gives what had been committed.
#[test]
fn overwritten_pages_are_refused_or_repaired_and_never_served() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("catalog.redb");
    {
        let catalog = open(directory.path());
        for index in 0..40 {
            catalog
                .create_topic(topic(&format!("topic-{index}")))
                .unwrap();
        }
    }
    let sound = std::fs::read(&file).unwrap();
    let names: Vec<_> = {
        let catalog = open(directory.path());
        catalog
            .topics()
            .iter()
            .map(|topic| topic.name.clone())
            .collect()
    };
    let mut refused = 0;
    for position in (0..sound.len().min(1 << 18)).step_by(4096) {
        let mut damaged = sound.clone();
        damaged[position..position + 512].fill(0xa5);
        std::fs::write(&file, &damaged).unwrap();
        match Catalog::open(directory.path()) {
            Err(error) => {
                refused += 1;
                let found = error.to_string();
                assert!(found.contains("catalog.redb"), "{found}");
            }
            Ok(catalog) => {
                for topic in catalog.topics() {
                    assert!(names.contains(&topic.name), "{topic:?} at {position}");
                }
            }
        }
    }
    assert!(refused > 0, "the damage reached a page in use");
}

#[test]
fn a_value_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    {
        let database = redb::Database::open(directory.path().join("catalog.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(redb::TableDefinition::<&str, &[u8]>::new("user"))
            .unwrap()
            .insert("alice", br#"{"version":2,"value":"other"}"#.as_slice())
            .unwrap();
        transaction.commit().unwrap();
    }
    let refused = message(Catalog::open(directory.path()));
    assert!(
        refused.contains("user \"alice\" has version 2"),
        "{refused}"
    );
}

#[test]
fn a_damaged_value_is_named_without_its_content() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    {
        let database = redb::Database::open(directory.path().join("catalog.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(redb::TableDefinition::<&str, &[u8]>::new("user"))
            .unwrap()
            .insert("alice", br#"{"version":1,"value":"secret"}"#.as_slice())
            .unwrap();
        transaction.commit().unwrap();
    }
    let refused = message(Catalog::open(directory.path()));
    assert!(refused.contains("user \"alice\" is damaged"), "{refused}");
    assert!(!refused.contains("secret"), "{refused}");
}

#[test]
fn debug_output_keeps_verifiers_secret() {
    let shown = format!("{:?}", user("alice"));
    assert!(
        shown.contains("4096") && !shown.contains("stored_key"),
        "{shown}"
    );
}

#[test]
fn a_disk_of_the_callers_holds_the_same_store() {
    let directory = tempfile::tempdir().unwrap();
    let disk = crate::env::files::machine();
    let catalog = Catalog::open_on(disk.as_ref(), directory.path()).unwrap();
    catalog.create_topic(topic("orders")).unwrap();
    let again = Catalog::open_on(disk.as_ref(), directory.path());
    assert!(again.unwrap_err().to_string().contains("another"));
    drop(catalog);
    let catalog = Catalog::open(directory.path()).unwrap();
    assert!(catalog.topic("orders").is_some());
}

#[test]
fn what_only_the_page_cache_holds_is_not_believed() {
    let disk = MemoryDisk::default();
    let directory = Path::new("/data");
    let catalog = Catalog::open_on(&disk, directory).expect("opens");
    catalog.create_topic(topic("synced")).expect("created");
    drop(catalog);
    let file = directory.join("catalog.redb");
    let mut on_disk = Vec::new();
    disk.change(&file, |content| on_disk.clone_from(content));
    let catalog = Catalog::open_on(&disk, directory).expect("opens");
    catalog.create_topic(topic("cached")).expect("created");
    drop(catalog);
    disk.fail_sync(&file, |content| *content = on_disk);
    let catalog = Catalog::open_on(&disk, directory).expect("opens");
    assert!(catalog.topic("synced").is_some());
    assert_eq!(catalog.topic("cached"), None);
}

#[test]
fn changes_of_users_are_counted_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = open(directory.path());
    let watch = catalog.watch_users();
    let before = catalog.user_changes();
    catalog.put_user(user("alice")).unwrap();
    catalog.put_user(user("alice")).unwrap();
    catalog.delete_user("alice").unwrap();
    assert!(catalog.delete_user("alice").is_err());
    assert_eq!(catalog.user_changes(), before + 3);
    assert!(watch.has_changed().unwrap());
}

#[test]
fn iterations_are_spread_as_the_users_have_them() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = open(directory.path());
    assert_eq!(catalog.iterations_at(0.5), None);
    let put = |name: &str, iterations| {
        let mut user = user(name);
        user.sha256.iterations = iterations;
        catalog.put_user(user).unwrap();
    };
    put("a", 8192);
    put("b", 4096);
    put("c", 4096);
    put("c", 8192);
    put("d", 8192);
    let spread = [0.0, 0.2, 0.3, 0.9, 1.0].map(|place| catalog.iterations_at(place));
    assert_eq!(spread.map(Option::unwrap), [4096, 4096, 8192, 8192, 8192]);
    catalog.delete_user("b").unwrap();
    assert_eq!(catalog.iterations_at(0.0), Some(8192));
}
