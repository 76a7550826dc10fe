//! Any text as a `topics.yaml`: no panic, bounded memory. How to run it longer: `crates/fuzz`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{fs, path::Path};

use anabranch_fuzz::Fuzz;
use anabranch_topology::{Severity, compile_when, parse};

/// A file's nodes are limited in number: ten thousand, each with its name and place.
const FLOOR_BYTES: u64 = 16 << 20;

fn files() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("../../topics.yaml")];
    for folder in ["tests/valid", "tests/broken"] {
        paths.extend(fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Each level holds the one before nine times.
fn laughs() -> Vec<u8> {
    let mut text = String::from("a: &a0 [lol]\n");
    for level in 1..40 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        text.push_str(&format!("b{level}: &a{level} [{before}]\n"));
    }
    text.into_bytes()
}

fn odd() -> Vec<Vec<u8>> {
    vec![
        laughs(),
        b"[".repeat(5_000),
        b"- ".repeat(5_000),
        b"{a: ".repeat(5_000),
        b"? ".repeat(5_000),
        b"&a *a: *a".to_vec(),
        b"name: !!binary [\nagents: {a: &x {config: *x}}".to_vec(),
        "name: \u{feff}a\u{2028}\ninbound: {\"\\uD800\": 1e400}".as_bytes().to_vec(),
    ]
}

#[test]
fn any_text_as_a_topology() {
    let corpus = files().into_iter().chain(odd());
    Fuzz::new("any text as a topology").corpus(corpus).allocating(2_000, FLOOR_BYTES).run(|input| {
        let text = String::from_utf8_lossy(input);
        match parse("topics.yaml", &text, None) {
            Ok(checked) => assert!(checked.warnings.iter().all(|d| d.severity != Severity::Error)),
            Err(diagnostics) => {
                assert!(diagnostics.iter().any(|d| d.severity == Severity::Error));
                assert!(!diagnostics.to_string().is_empty());
            }
        }
    });
}

#[test]
fn any_expression() {
    let good =
        ["request.amount > 1000.0 && has(request.applicant)", "[1, 2, 3].all(x, x > 0)", "((((1))))", "'a' + \"b\""];
    // As long as is allowed, and longer.
    let odd = [
        "(", "!", "-", "a.", "[", "x?y:", "1+", "1*", "1<", "a||", "a&&", "1 in ", "a[", "{1:", "a(", "!(", "has(",
        "b\"\"+",
    ]
    .into_iter()
    .flat_map(|piece| [500, 1_020, 5_000].map(|bytes| format!("{}1", piece.repeat(bytes / piece.len())).into_bytes()));
    let corpus = good.map(|text| text.as_bytes().to_vec()).into_iter().chain(odd);
    Fuzz::new("any expression").corpus(corpus).allocating(20_000, FLOOR_BYTES).run(|input| {
        drop(compile_when(&String::from_utf8_lossy(input)));
    });
}
