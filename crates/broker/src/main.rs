//! The development broker as a program of its own.

fn main() {}
