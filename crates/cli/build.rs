//! The demo's files are part of the binary: a new one makes a new binary.

fn main() {
    println!("cargo:rerun-if-changed=demo");
}
