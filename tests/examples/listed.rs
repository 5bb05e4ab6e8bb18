//! Checks that each example has a test here, and a line in `examples/README.md`.

use std::fs;
use std::path::Path;

use crate::shell::{ROOT, Shell};

const TESTS: &str = concat!(
    include_str!("groups.rs"),
    include_str!("learn.rs"),
    include_str!("rigs.rs"),
    include_str!("tools.rs")
);

/// Returns the names of the examples of a group, as its manifest has them.
fn examples(group: &str) -> Vec<String> {
    let manifest = Path::new(ROOT).join("examples").join(group);
    let manifest = fs::read_to_string(manifest.join("Cargo.toml")).expect("the group has one");
    let entries = manifest.split("[[example]]\n").skip(1);
    let names = entries.filter_map(|entry| entry.split('"').nth(1));
    names.map(str::to_owned).collect()
}

#[test]
fn each_example_has_a_test_and_a_line_in_the_readme() {
    let page = fs::read_to_string(Path::new(ROOT).join("examples/README.md")).unwrap();
    let mut count = 0;
    for group in ["learn", "tools", "rigs"] {
        let link = format!("]({group}/");
        for name in examples(group) {
            let is_listed = page
                .lines()
                .any(|line| line.contains(&format!("`{name}`")) && line.contains(&link));
            assert!(is_listed, "examples/README.md has no line for {name}");
            assert!(
                TESTS.contains(&format!("fn {name}_")),
                "no test begins with {name}"
            );
            count += 1;
        }
    }
    assert_eq!(count, 21);
}

#[test]
fn each_tool_and_rig_prints_its_usage() {
    let shell = Shell::new();
    for name in ["tools", "rigs"].map(examples).concat() {
        shell
            .run(&format!("{name} --help"))
            .expect_line(&format!("Usage: {name}.*"));
    }
}
