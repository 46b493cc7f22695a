//! Real applications from the package registries, visited directly and through the gateway, and the visits compared.
//!
//! Each has a folder in `tests/apps`: what it is made of with pinned versions, the `gateway.yaml` in front of it, which
//! the cookbook tells about, and the driver that visits it as its users do. Packages are installed below the target
//! folder once, and again when the pinned versions change.

mod compare;
mod cookbook;
mod django;
mod grpc;
mod node;
mod pgadmin;
pub mod stage;
mod static_site;
