//! What came in at run time cannot be an author's instruction to a model.
use anabranch_sdk::prelude::*;

fn prompt(text: String) -> Prompt {
    Prompt::new(&text)
}

fn main() {}
