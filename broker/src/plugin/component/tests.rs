use super::*;

fn inspected(text: &str) -> Result<Inspected, Vec<String>> {
    inspect(&wat::parse_str(text).unwrap(), 1 << 20)
}

fn refused(text: &str, expected: &[&str]) {
    assert_eq!(inspected(text).unwrap_err(), expected);
}

const TRANSFORM: &str = r#"(export "tidegate:plugin/transformation@0.1.0" (instance $empty))"#;

fn component(imports: &str, exports: &str) -> String {
    format!("(component {imports} (instance $empty) {exports})")
}

#[test]
fn the_world_is_told_by_the_exports() {
    for (interface, world) in [
        ("partitioning", World::Partitioner),
        ("authorization", World::Authorizer),
        ("transformation", World::Transform),
    ] {
        let export = format!("tidegate:plugin/{interface}@0.1.7");
        let text = component("", &format!("(export \"{export}\" (instance $empty))"));
        let found = inspected(&text).unwrap();
        assert_eq!((found.world, found.export), (world, export));
        assert_eq!(World::ROWS[world as usize].world, world);
    }
}

#[test]
fn a_world_offers_its_own_imports_and_the_harmless_part_of_wasi() {
    let imports = r#"
        (import "tidegate:plugin/types@0.1.0" (instance))
        (import "tidegate:plugin/log@0.1.0" (instance))
        (import "tidegate:plugin/metrics@0.1.0" (instance))
        (import "tidegate:plugin/config@0.1.0" (instance))
        (import "wasi:cli/environment@0.2.0" (instance))
        (import "wasi:io/streams@0.2.6" (instance))
        (import "wasi:filesystem/types@0.2.6" (instance))"#;
    let found = inspected(&component(imports, TRANSFORM)).unwrap();
    assert_eq!(found.imports.len(), 7);
}

#[test]
fn every_reason_is_told() {
    let imports = r#"
        (import "tidegate:plugin/clock@0.1.0" (instance))
        (import "tidegate:plugin/log@0.2.0" (instance))
        (import "wasi:sockets/tcp@0.2.6" (instance))
        (import "wasi:io/streams@0.3.0" (instance))
        (import "other" (func))"#;
    let offers = "which the world transform does not offer (it offers log, metrics, config, in version 0.1.0)";
    let expected: Vec<_> = [
        "tidegate:plugin/clock@0.1.0",
        "tidegate:plugin/log@0.2.0",
        "wasi:sockets/tcp@0.2.6",
        "wasi:io/streams@0.3.0",
        "other",
    ]
    .iter()
    .map(|import| format!("it imports {import}, {offers}"))
    .collect();
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    refused(&component(imports, TRANSFORM), &expected);
}

#[test]
fn a_component_is_of_one_world() {
    refused(
        &component("", ""),
        &[
            "it exports nothing; a plugin exports one of tidegate:plugin/partitioning@0.1.0 (partitioner), \
             tidegate:plugin/authorization@0.1.0 (authorizer), tidegate:plugin/transformation@0.1.0 (transform)",
        ],
    );
    let two =
        format!(r#"{TRANSFORM} (export "tidegate:plugin/partitioning@0.1.0" (instance $empty))"#);
    refused(
        &component("", &two),
        &["it exports the interfaces of several worlds; a plugin is of one"],
    );
}

#[test]
fn names_inside_nested_components_do_not_count() {
    let nested = format!(r#"(component (import "other" (func))) {TRANSFORM}"#);
    assert!(inspected(&component("", &nested)).is_ok());
}

#[test]
fn what_is_no_component_is_named() {
    refused(
        "(module)",
        &["it is a core module, not a component; build it for wasm32-wasip2"],
    );
    for (bytes, max, reason) in [
        (b"hello".as_slice(), 10, "it is not WebAssembly"),
        (
            b"hello",
            4,
            "it has 5 bytes; at most 4 are taken (plugins.max_artifact_bytes)",
        ),
        (b"", 4, "it is not WebAssembly"),
    ] {
        assert_eq!(inspect(bytes, max), Err(vec![reason.to_owned()]));
    }
}

#[test]
fn damaged_components_are_refused_without_a_panic() {
    let whole = wat::parse_str(component("(import \"other\" (func))", TRANSFORM)).unwrap();
    for end in 0..whole.len() {
        assert!(inspect(&whole[..end], 1 << 20).is_err(), "cut at {end}");
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            let _ = inspect(&flipped, 1 << 20);
        }
    }
}
