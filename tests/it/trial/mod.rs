//! The trial: every ambiguous, forged or misspelt message that we could think of, each by name, before a real gateway.
mod answers;
mod backend;
mod case;
mod frames;
mod framing;
mod hostile;
mod names;
mod normalisers;
mod readers;
mod spellings;
mod stage;
