//! `moat demo`: sample application, identity provider and gateway in one process, and curl lines to try them with.
pub mod app;
pub mod idp;
mod page;
