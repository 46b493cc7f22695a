//! Signing in with OpenID Connect: a real provider and a real browser, and a provider that does what no real one does.
mod back_channel;
mod ended;
mod fake;
mod hostile;
mod pages;
mod real;
mod silence;
mod strict;
mod second_factor;
mod tenants;
mod way_back;
