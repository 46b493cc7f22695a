//! Integration tests: the real binary, real sockets, one test program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test that cannot go on should stop where it stands"
)]

mod harness;

mod activation;
mod address;
mod admin;
mod apps;
mod attacks;
mod cases;
mod codes;
mod dashboards;
mod command_line;
mod cross_site;
mod day;
mod delivery;
mod demo;
mod drain;
mod dressing;
mod endings;
mod explain;
mod fairness;
mod families;
mod floods;
mod forwarding;
mod http2;
mod identity;
mod last_good;
mod lane;
mod laws;
mod limits;
mod live;
mod load;
mod log;
mod oidc;
mod poison;
mod readme;
mod refusals;
mod reload;
mod reload_command;
mod revocation;
mod scale;
mod sessions;
mod settings;
mod shared;
mod spoofing;
mod state;
mod status;
mod streams;
mod tail;
mod telemetry;
mod tickets;
mod tidy;
mod tls;
mod traces;
mod trial;
mod upgrade;
mod upstreams;
mod ways;
