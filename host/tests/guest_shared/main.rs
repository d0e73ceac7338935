//! The tests of plugins once more, with objects that share: all those of types that save.

#[path = "../guest/main.rs"]
mod guest;
