//! Nothing unfinished, nothing switched off without a reason, nothing unsafe outside a list.

use syn::visit::{self, Visit};

use crate::{Source, report, sources};

/// Files that may say `unsafe`, each with its reason.
const UNSAFE: &[(&str, &str)] = &[(
    "broker/src/plugin",
    "loads artifacts that this broker compiled, which wasmtime cannot check",
)];

const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

fn complaints(source: &Source) -> Vec<String> {
    let mut finder = Finder(Vec::new());
    finder.visit_file(&source.parse());
    let may_be_unsafe = UNSAFE
        .iter()
        .any(|(place, _)| source.path.starts_with(place));
    let found = finder.0.into_iter();
    found
        .filter(|(_, what)| !(may_be_unsafe && *what == "unsafe"))
        .map(|(line, what)| format!("{}:{line}: {what}", source.path))
        .collect()
}

struct Finder(Vec<(usize, String)>);

impl Finder {
    fn note(&mut self, span: proc_macro2::Span, what: &str) {
        self.0.push((span.start().line, what.to_owned()));
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        if let Some(name) = item.path.segments.last()
            && UNFINISHED.contains(&name.ident.to_string().as_str())
        {
            self.note(name.ident.span(), &format!("{}!", name.ident));
        }
        visit::visit_macro(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("ignore") && matches!(attribute.meta, syn::Meta::Path(_)) {
            self.note(attribute.pound_token.span, "#[ignore] without a reason");
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.note(block.unsafe_token.span, "unsafe");
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let syn::Safety::Unsafe(token) = &signature.safety {
            self.note(token.span, "unsafe");
        }
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(token) = &item.unsafety {
            self.note(token.span, "unsafe");
        }
        visit::visit_item_impl(self, item);
    }
}

#[test]
fn nothing_is_left_over() {
    report(
        sources(".rs").iter().flat_map(complaints).collect(),
        "Finish it, give the reason, or add the file to the list in tests/tidy/leftovers.rs.",
    );
}

#[test]
fn what_is_left_over_is_found() {
    let text = "
        #[ignore] #[test] fn a() { todo!() }
        #[ignore = \"needs a disk\"] #[test] fn b() { unsafe { c() } }
    ";
    let found = complaints(&Source {
        path: "broker/src/log/a.rs".into(),
        text: text.into(),
    });
    let found: Vec<_> = found
        .iter()
        .filter_map(|line| line.rsplit(": ").next())
        .collect();
    assert_eq!(found, ["#[ignore] without a reason", "todo!", "unsafe"]);
}
