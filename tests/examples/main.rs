//! Runs every example as a user would, and checks what it prints.
//!
//! The tests build the examples first: they are packages of their own, in `examples/`.

mod groups;
mod learn;
mod listed;
mod output;
mod pipes;
mod rigs;
mod shell;
mod tools;
