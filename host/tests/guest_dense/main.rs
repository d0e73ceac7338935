//! The tests of plugins once more, with the memories of guests in the dense layout.

#[path = "../guest/main.rs"]
mod guest;
