//! The trial: every ambiguous, forged or misspelt message that we could think of, each by name, before a real gateway.
mod backend;
mod case;
mod framing;
mod readers;
mod stage;
