use super::*;

/// `cargo metadata` of a workspace with these packages: name, metadata, names of binaries.
fn metadata(packages: &[(&str, serde_json::Value, &[&str])]) -> Metadata {
    let id = |name: &str| format!("path+file:///w/{name}#0.1.0");
    let package = |(name, metadata, binaries): &(&str, serde_json::Value, &[&str])| {
        let lib = serde_json::json!({"name": name.replace('-', "_"), "kind": ["lib"], "crate_types": ["lib"],
            "src_path": format!("/w/{name}/src/lib.rs"), "edition": "2024"});
        let bins = binaries.iter().map(|b| {
            serde_json::json!({"name": b, "kind": ["bin"], "crate_types": ["bin"],
                "src_path": format!("/w/{name}/src/main.rs"), "edition": "2024"})
        });
        serde_json::json!({"name": name, "version": "0.1.0", "id": id(name), "dependencies": [], "features": {},
            "manifest_path": format!("/w/{name}/Cargo.toml"), "metadata": metadata, "edition": "2024",
            "targets": std::iter::once(lib).chain(bins).collect::<Vec<_>>()})
    };
    let ids: Vec<String> = packages.iter().map(|p| id(p.0)).collect();
    let json = serde_json::json!({"packages": packages.iter().map(package).collect::<Vec<_>>(),
        "workspace_members": ids, "workspace_default_members": ids, "resolve": null, "target_directory": "/w/target",
        "version": 1, "workspace_root": "/w", "metadata": null});
    serde_json::from_value(json).unwrap()
}

fn marks(agent: &str, role: &str) -> serde_json::Value {
    serde_json::json!({"anabranch": {"agent": agent, "role": role}})
}

fn refused(packages: &[(&str, serde_json::Value, &[&str])]) -> String {
    let error = of_metadata(&metadata(packages)).unwrap_err();
    assert!(error.is::<crate::usage::Usage>(), "the user can mend it: {error}");
    error.to_string()
}

#[test]
fn agents_are_the_packages_that_say_so() {
    let found = of_metadata(&metadata(&[
        ("composer", marks("composer", "composer"), &["composer"]),
        ("helper", serde_json::Value::Null, &["helper"]),
        ("identity", serde_json::json!({"anabranch": {"agent": "identity"}, "other": 1}), &["check"]),
        ("fraud", marks("fraud", "agent"), &["tool", "fraud"]),
        ("supervisor", marks("supervisor", "supervisor"), &["supervisor"]),
    ]))
    .unwrap();
    let found: Vec<(&str, Role, &str)> = found.iter().map(|a| (&*a.name, a.role, &*a.binary)).collect();
    let expected = [
        ("supervisor", Role::Supervisor, "supervisor"),
        ("fraud", Role::Agent, "fraud"),
        ("identity", Role::Agent, "check"),
        ("composer", Role::Composer, "composer"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_cannot_be_an_agent_is_refused_with_its_file() {
    let two = refused(&[("a", marks("x", "agent"), &["a"]), ("b", marks("x", "agent"), &["b"])]);
    assert_eq!(two, "/w/b/Cargo.toml: agent \"x\" is in /w/a/Cargo.toml already; name it otherwise");
    let no_binary = refused(&[("a", marks("a", "agent"), &[])]);
    assert_eq!(no_binary, "/w/a/Cargo.toml: an agent needs a binary: write src/main.rs");
    let which = refused(&[("a", marks("x", "agent"), &["b", "c"])]);
    assert_eq!(which, "/w/a/Cargo.toml: which binary is the agent? name one of them \"a\"");
    let role = refused(&[("a", marks("a", "boss"), &["a"])]);
    assert!(role.starts_with("/w/a/Cargo.toml: [package.metadata.anabranch]: unknown variant `boss`"), "{role}");
    let name = refused(&[("a", marks("A b", "agent"), &["a"])]);
    assert!(name.starts_with("/w/a/Cargo.toml: agent = \"A b\": 'A' may not be"), "{name}");
}

#[test]
fn names_that_would_not_do_are_refused() {
    for good in ["identity", "adverse-media", "a1", "x-2-y"] {
        assert_eq!(check_name(good), Ok(()), "{good}");
    }
    for bad in ["", "Identity", "a_b", "a.b", "-a", "a-", "a--b", "1a", "ä", "a b", "a/b", &"a".repeat(65)] {
        assert!(check_name(bad).is_err(), "{bad:?} was taken");
    }
}

#[test]
fn picking_names_what_there_is() {
    let all = || vec!["identity".to_owned(), "fraud".to_owned()];
    assert_eq!(pick(all(), &[], |a| a).unwrap(), all());
    assert_eq!(pick(all(), &["fraud".to_owned()], |a| a).unwrap(), ["fraud"]);
    let error = pick(all(), &["frod".to_owned()], |a| a).unwrap_err();
    assert_eq!(error.to_string(), "there is no agent \"frod\"; there are: identity, fraud");
    assert!(pick(Vec::<String>::new(), &[], |a| a).is_err());
}

#[test]
fn a_directory_of_binaries_is_read_without_cargo() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, mode: u32| {
        let path = directory.path().join(name);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    file("anabranch-agent-fraud", 0o755);
    file("anabranch-agent-identity", 0o755);
    file("anabranch-agent-notes", 0o644);
    file("anabranch-agent-fraud.d", 0o755);
    file("anabranch", 0o755);
    let names: Vec<String> = in_directory(directory.path()).unwrap().into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["fraud", "identity"]);
    assert!(in_directory(&directory.path().join("none")).is_err());
    std::fs::create_dir(directory.path().join("empty")).unwrap();
    assert!(in_directory(&directory.path().join("empty")).is_err());
}
