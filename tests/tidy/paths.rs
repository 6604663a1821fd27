//! Every path that a source file names, outside its tests: imports, types, calls, and what stands in macros.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path as it was written, resolved to the crate's root where it starts with `crate`, `self` or `super`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Named {
    /// `["crate", "log", "records"]` or `["std", "fs"]`.
    pub segments: Vec<String>,
    pub line: usize,
}

impl Named {
    /// Whether the path is `prefix` (such as `std::fs`) or something in it.
    pub fn is_in(&self, prefix: &str) -> bool {
        let mut own = self.segments.iter();
        prefix
            .split("::")
            .all(|segment| own.next().is_some_and(|found| found == segment))
    }
}

/// The paths of `file`, which is the module `module` (such as `["kafka", "handlers"]`) of its crate.
pub fn named(file: &syn::File, module: &[String]) -> Vec<Named> {
    let mut collector = Collector {
        module: module.to_vec(),
        found: Vec::new(),
    };
    collector.visit_file(file);
    collector.found.sort();
    collector.found.dedup();
    collector.found
}

/// `broker/src/kafka/handlers/produce.rs` → `["kafka", "handlers", "produce"]`; `None` for a file of tests.
pub fn module_of(path: &str, root: &str) -> Option<Vec<String>> {
    let inside = path.strip_prefix(root)?.strip_suffix(".rs")?;
    let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if module.iter().any(|name| name == "tests") {
        return None;
    }
    if module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    Some(module)
}

struct Collector {
    module: Vec<String>,
    found: Vec<Named>,
}

impl Collector {
    fn note(&mut self, segments: Vec<String>, line: usize) {
        let mut rest = segments.as_slice();
        let mut base = match rest.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            _ => {
                self.found.push(Named { segments, line });
                return;
            }
        };
        while let Some(first) = rest.first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => {
                    base.pop();
                }
                _ => break,
            }
            rest = &rest[1..];
        }
        let mut resolved = vec!["crate".to_owned()];
        resolved.extend(base);
        resolved.extend_from_slice(rest);
        self.found.push(Named {
            segments: resolved,
            line,
        });
    }

    fn note_use(&mut self, tree: &syn::UseTree, prefix: &[String]) {
        let with = |name: &syn::Ident| {
            let mut path = prefix.to_vec();
            path.push(name.to_string());
            path
        };
        match tree {
            syn::UseTree::Path(path) => self.note_use(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => {
                self.note(with(&name.ident), name.ident.span().start().line)
            }
            syn::UseTree::Rename(name) => {
                self.note(with(&name.ident), name.ident.span().start().line);
            }
            syn::UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                self.note(prefix.to_vec(), line);
            }
            syn::UseTree::Group(group) => {
                for item in &group.items {
                    self.note_use(item, prefix);
                }
            }
        }
    }

    /// `a :: b :: c` in the tokens of a macro.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut colons, mut line) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons < 2 {
                        self.note_long(std::mem::take(&mut path), line);
                        line = name.span().start().line;
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.note_tokens(group.stream());
                    colons = 0;
                }
                _ => colons = 0,
            }
        }
        self.note_long(path, line);
    }

    fn note_long(&mut self, path: Vec<String>, line: usize) {
        if path.len() > 1 {
            self.note(path, line);
        }
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_use(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if let Some(first) = path.segments.first() {
            self.note_long(segments, first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.note_tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        _ => &[],
    }
}

/// `#[cfg(test)]` or `#[test]`.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<syn::Ident>()
                    .is_ok_and(|condition| condition == "test"))
    })
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let text = "
        use crate::log::{PartitionLog, batch::*};
        use super::context as c;
        fn f(a: std::fs::File) { g!(x, crate::net::Frame { y: tokio::net::z() }); }
        #[cfg(test)] mod tests { use crate::admin; }
        mod inner { use super::super::catalog; }
    ";
    let file = syn::parse_file(text).expect("the sample is Rust");
    let module = ["kafka".to_owned(), "handlers".to_owned()];
    let found = named(&file, &module);
    let has = |path: &str| found.iter().any(|named| named.is_in(path));
    for path in [
        "crate::log::PartitionLog",
        "crate::log::batch",
        "crate::kafka::context",
        "std::fs",
        "crate::net::Frame",
        "tokio::net",
        "crate::kafka::catalog",
    ] {
        assert!(has(path), "{path} is not in {found:?}");
    }
    assert!(!has("crate::admin"), "tests may import what they like");
}
