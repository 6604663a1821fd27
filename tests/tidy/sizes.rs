//! Sizes as a ratchet: a file of at most 800 lines, a function of at most 70. `exceptions.txt` names what is larger, how
//! large, and why; a line that is no longer needed must go, and the number of lines may only fall.

use std::collections::BTreeMap;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::{Source, report, sources};

const MAX_FILE_LINES: usize = 800;
const MAX_FUNCTION_LINES: usize = 70;
/// Lower it with the list; never raise it.
const EXCEPTIONS_LEFT: usize = 2;
const EXCEPTIONS: &str = include_str!("exceptions.txt");

/// What is too large: `path`, or `path function`, with its lines.
fn oversized(source: &Source) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let lines = source.text.lines().count();
    if lines > MAX_FILE_LINES {
        found.insert(source.path.clone(), lines);
    }
    let mut functions = Functions(Vec::new());
    functions.visit_file(&source.parse());
    for (name, lines) in functions.0 {
        if lines > MAX_FUNCTION_LINES {
            found.insert(format!("{} {name}", source.path), lines);
        }
    }
    found
}

struct Functions(Vec<(String, usize)>);

impl Functions {
    fn note(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let last = block.brace_token.span.close().end().line;
        self.0.push((signature.ident.to_string(), last - first + 1));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.note(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// `path[ function] | lines | reason`, one a line; `#` starts a comment.
fn exceptions(text: &str) -> Vec<(String, usize)> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut fields = line.split('|').map(str::trim);
            let (what, limit, reason) = (fields.next(), fields.next(), fields.next());
            let limit = limit.and_then(|limit| limit.parse().ok());
            match (what, limit, reason) {
                (Some(what), Some(limit), Some(reason)) if !reason.is_empty() => {
                    (what.to_owned(), limit)
                }
                _ => panic!("exceptions.txt: `{line}` is not `path function | lines | reason`"),
            }
        })
        .collect()
}

fn complaints(
    mut oversized: BTreeMap<String, usize>,
    exceptions: &[(String, usize)],
) -> Vec<String> {
    let mut complaints = Vec::new();
    for (what, limit) in exceptions {
        match oversized.remove(what) {
            None => complaints.push(format!("{what}: no longer needs its exception; remove it")),
            Some(lines) if lines > *limit => complaints.push(format!(
                "{what}: {lines} lines, its exception ends at {limit}"
            )),
            Some(_) => {}
        }
    }
    let unexcused = oversized
        .iter()
        .map(|(what, lines)| format!("{what}: {lines} lines"));
    complaints.extend(unexcused);
    complaints
}

#[test]
fn files_and_functions_stay_small() {
    let exceptions = exceptions(EXCEPTIONS);
    assert_eq!(
        exceptions.len(),
        EXCEPTIONS_LEFT,
        "lines in exceptions.txt: the list may only shrink, and EXCEPTIONS_LEFT with it"
    );
    let oversized = sources(".rs").iter().flat_map(oversized).collect();
    report(
        complaints(oversized, &exceptions),
        "Files have at most 800 lines, functions at most 70.",
    );
}

#[test]
fn what_outgrows_its_bound_is_found() {
    let body = "let a = 1;\n".repeat(70);
    let source = Source {
        path: "a.rs".into(),
        text: format!("fn small() {{}}\nimpl A {{\nfn large() {{\n{body}}}\n}}\n"),
    };
    let found = oversized(&source);
    assert_eq!(found, BTreeMap::from([("a.rs large".to_owned(), 72)]));
    let excused = exceptions("# why\na.rs large | 72 | a table\nb.rs | 900 | gone\n");
    let complaints = complaints(found, &excused);
    assert_eq!(
        complaints,
        ["b.rs: no longer needs its exception; remove it"]
    );
}
