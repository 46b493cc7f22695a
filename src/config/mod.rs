//! `gateway.yaml` and `policies/` → one immutable `Snapshot`, or all problems at once.
