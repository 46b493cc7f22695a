//! Sessions that the gateway itself keeps: their lives as state machines, with the clock as an argument.
pub mod browser;
pub mod family;
pub mod handle;
