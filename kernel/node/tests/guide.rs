//! The guide's example is the program that is compiled, letter by letter.

const GUIDE: &str = include_str!("../../README.md");

#[test]
fn the_example_in_the_guide_is_the_one_that_is_compiled() {
    let example = include_str!("../examples/threads/embedding.rs");
    assert!(GUIDE.contains(&format!("```rust\n{example}```\n")), "copy embedding.rs into kernel/README.md");
    assert!(example.lines().count() <= 130, "it is to be read at once");
}
