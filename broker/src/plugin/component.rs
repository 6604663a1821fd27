//! From bytes to something that can be started: which world a component is of, what it may import, and its compiled form.

use std::path::Path;
use std::sync::Arc;

use wasmparser::{Encoding, Parser, Payload, Validator};
use wasmtime::component::{Component, InstancePre, Linker};

use super::engine::{self, PluginEngine};
use super::host::{self, GuestState};
use super::wasi;

/// What is compiled: functions, and the bytes of one, for which a compiler takes more than in proportion. Python's interpreter has
/// some 20,000 functions and none of 200 KB.
const MAX_FUNCTIONS: usize = 200_000;
const MAX_FUNCTION_BYTES: usize = 1 << 20;

const PACKAGE: &str = "tidegate:plugin/";
/// Every version of the package that this host speaks ends in it: plugins built against an older one keep working.
const VERSION: &str = "0.1.";

/// What a plugin is for. One row of [`World::ROWS`] each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum World {
    Partitioner,
    Authorizer,
    Transform,
}

struct Row {
    world: World,
    name: &'static str,
    /// What it exports.
    interface: &'static str,
    function: &'static str,
    /// What it may import.
    imports: &'static [&'static str],
}

impl World {
    const ROWS: [Row; 3] = [
        Row {
            world: Self::Partitioner,
            name: "partitioner",
            interface: "partitioning",
            function: "assign",
            imports: &["types", "log", "metrics", "config"],
        },
        Row {
            world: Self::Authorizer,
            name: "authorizer",
            interface: "authorization",
            function: "check",
            imports: &["types", "log", "metrics", "config", "clock"],
        },
        Row {
            world: Self::Transform,
            name: "transform",
            interface: "transformation",
            function: "apply",
            imports: &["types", "log", "metrics", "config"],
        },
    ];

    fn row(self) -> &'static Row {
        &Self::ROWS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The one function of its interface beside `init`.
    pub fn function(self) -> &'static str {
        self.row().function
    }

    fn of_export(name: &str) -> Option<Self> {
        let interface = own_interface(name)?;
        Self::ROWS
            .iter()
            .find(|row| row.interface == interface)
            .map(|row| row.world)
    }
}

/// The interface's name without package and version, when it is one of ours in a version that is spoken here.
fn own_interface(name: &str) -> Option<&str> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.split_once('@')?;
    version.starts_with(VERSION).then_some(interface)
}

/// What a component says of itself, read without compiling it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inspected {
    pub world: World,
    /// The export that holds the world's functions, with its version.
    pub export: String,
    pub imports: Vec<String>,
}

/// Checks bytes that anybody may have written. Errs with everything that is wrong with them.
pub fn inspect(bytes: &[u8], max_bytes: u64) -> Result<Inspected, Vec<String>> {
    if bytes.len() as u64 > max_bytes {
        return Err(vec![format!(
            "it has {} bytes; at most {max_bytes} are taken (plugins.max_artifact_bytes)",
            bytes.len()
        )]);
    }
    if !Parser::is_component(bytes) {
        return Err(vec![if Parser::is_core_wasm(bytes) {
            "it is a core module, not a component; build it for wasm32-wasip2".into()
        } else {
            "it is not WebAssembly".into()
        }]);
    }
    let reasons = outsized(bytes);
    if !reasons.is_empty() {
        return Err(reasons);
    }
    Validator::new()
        .validate_all(bytes)
        .map_err(|error| vec![format!("it is not valid: {error}")])?;
    let (imports, exports) = surface(bytes).map_err(|error| vec![error])?;

    let mut reasons = Vec::new();
    let worlds: Vec<_> = exports
        .iter()
        .filter_map(|export| Some((World::of_export(export)?, export)))
        .collect();
    if worlds.len() != 1 {
        reasons.push(wrong_exports(&exports, worlds.len()));
    }
    let world = worlds.first().map(|(world, _)| *world);
    reasons.extend(
        imports
            .iter()
            .filter_map(|import| refused_import(import, world)),
    );
    match worlds[..] {
        [(world, export)] if reasons.is_empty() => Ok(Inspected {
            world,
            export: export.clone(),
            imports,
        }),
        _ => Err(reasons),
    }
}

/// What of it is more than is compiled. What cannot be read is the validator's to tell.
fn outsized(bytes: &[u8]) -> Vec<String> {
    let bodies = Parser::new(0)
        .parse_all(bytes)
        .map_while(Result::ok)
        .filter_map(|payload| match payload {
            Payload::CodeSectionEntry(body) => Some(body.as_bytes().len()),
            _ => None,
        });
    let (count, largest) = bodies.fold((0, 0), |(count, largest), bytes| {
        (count + 1, bytes.max(largest))
    });
    let mut reasons = Vec::new();
    if count > MAX_FUNCTIONS {
        reasons.push(format!(
            "it has {count} functions; at most {MAX_FUNCTIONS} are compiled"
        ));
    }
    if largest > MAX_FUNCTION_BYTES {
        reasons.push(format!(
            "one of its functions has {largest} bytes; at most {MAX_FUNCTION_BYTES} are compiled"
        ));
    }
    reasons
}

fn wrong_exports(exports: &[String], worlds: usize) -> String {
    if worlds > 1 {
        return "it exports the interfaces of several worlds; a plugin is of one".into();
    }
    let wanted: Vec<_> = World::ROWS
        .iter()
        .map(|row| format!("{PACKAGE}{}@{VERSION}0 ({})", row.interface, row.name))
        .collect();
    let found = if exports.is_empty() {
        "nothing".into()
    } else {
        exports.join(", ")
    };
    format!(
        "it exports {found}; a plugin exports one of {}",
        wanted.join(", ")
    )
}

fn refused_import(import: &str, world: Option<World>) -> Option<String> {
    if wasi::offers(import) {
        return None;
    }
    let Some(world) = world else {
        return (!import.starts_with(PACKAGE))
            .then(|| format!("it imports {import}, which no plugin may"));
    };
    let row = world.row();
    if own_interface(import).is_some_and(|interface| row.imports.contains(&interface)) {
        return None;
    }
    Some(format!(
        "it imports {import}, which the world {} does not offer (it offers {}, in version {VERSION}0)",
        row.name,
        row.imports[1..].join(", ")
    ))
}

/// The names that the outermost component imports and exports.
fn surface(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>), String> {
    let broken = |error| format!("it cannot be read: {error}");
    let mut imports = Vec::new();
    let mut exports = Vec::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(broken)? {
            Payload::Version { encoding, .. } => {
                debug_assert!(depth > 0 || encoding == Encoding::Component);
                depth += 1;
            }
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import.map_err(broken)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export.map_err(broken)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

/// A component that was checked, compiled and linked: instances start from it in microseconds. Cloning is cheap.
#[derive(Clone)]
pub struct Compiled {
    pub engine: PluginEngine,
    pub inspected: Arc<Inspected>,
    pub pre: InstancePre<GuestState>,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled")
            .field("inspected", &self.inspected)
            .finish_non_exhaustive()
    }
}

impl Compiled {
    /// Loads what was compiled before ([`super::compile`]), or compiles it.
    pub fn new(
        engine: &PluginEngine,
        bytes: &[u8],
        inspected: Inspected,
    ) -> Result<Self, Vec<String>> {
        let refused = |what: &str, error: wasmtime::Error| vec![format!("{what}: {error:#}")];
        let component = Component::new(engine.engine(), bytes)
            .map_err(|error| refused("it does not compile", error))?;
        let mut linker = Linker::new(engine.engine());
        for import in &inspected.imports {
            match own_interface(import) {
                Some(interface) => host::link(&mut linker, import, interface),
                None => wasi::link(&mut linker, import),
            }
            .map_err(|error| refused("its imports cannot be offered", error))?;
        }
        // What is left of WASI (files, terminals, polling) traps when it is called, not before.
        linker
            .define_unknown_imports_as_traps(&component)
            .map_err(|error| refused("its imports cannot be offered", error))?;
        let pre = linker
            .instantiate_pre(&component)
            .map_err(|error| refused("its imports are not of the expected type", error))?;
        Ok(Self {
            engine: engine.clone(),
            inspected: Arc::new(inspected),
            pre,
        })
    }
}

/// Compiles a component so that a broker finds it in the cache.
pub fn compile_into_cache(cache: &Path, bytes: &[u8]) -> Result<(), String> {
    let (engine, cache) = engine::compiler(cache)?;
    Component::new(&engine, bytes).map_err(|error| format!("{error:#}"))?;
    // A cache that cannot be written is passed over in silence.
    Component::new(&engine, bytes).map_err(|error| format!("{error:#}"))?;
    match cache.cache_hits() {
        0 => Err(format!(
            "its compiled code cannot be kept in {}",
            cache.directory().display()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
