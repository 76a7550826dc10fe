use super::*;

fn all(template: &Template) -> String {
    template.files().map(|(path, text)| format!("==> {path}\n{text}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_new_agent() {
    let description = "Looks for \"bad press\" about {name}.";
    let template = Template::new("adverse-media", Some(description), Some(r#"request.risk == "high""#)).unwrap();
    insta::assert_snapshot!(all(&template));
}

#[test]
fn what_can_be_left_out() {
    let text = all(&Template::new("pep", None, None).unwrap());
    assert!(text.contains(r#"const DESCRIPTION: &'static str = "The pep agent.";"#), "{text}");
    assert!(!text.contains("WHEN"), "{text}");
    assert!(!text.contains("{name}") && !text.contains("{type}") && !text.contains("{crate}"), "{text}");
}

#[test]
fn what_would_not_do_is_refused_before_anything_is_written() {
    let refused = |name: &str, description: Option<&str>, when: Option<&str>| {
        let error = Template::new(name, description, when).unwrap_err();
        assert!(error.is::<crate::usage::Usage>());
        error.to_string()
    };
    assert!(refused("Adverse", None, None).contains("'A' may not be in an agent's name"));
    assert!(refused("../evil", None, None).contains("'.' may not be in an agent's name"));
    assert!(refused("composer", None, None).contains("is taken"));
    assert!(refused("x", Some("two\nlines"), None).starts_with("--description"));
    assert!(refused("x", Some(" "), None).starts_with("--description"));
    assert!(refused("x", None, Some("request.risk ==")).starts_with("--when: "));
}

#[test]
fn nothing_is_written_over() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("agents/pep");
    let template = Template::new("pep", None, None).unwrap();
    write(&template, &directory).unwrap();
    assert!(directory.join("Cargo.toml").is_file() && directory.join("src/main.rs").is_file());
    std::fs::write(directory.join("src/lib.rs"), "mine").unwrap();
    let error = write(&template, &directory).unwrap_err();
    assert!(error.to_string().contains("is there already"), "{error}");
    assert_eq!(std::fs::read_to_string(directory.join("src/lib.rs")).unwrap(), "mine");
}
