//! The frames of HTTP/2 (RFC 9113), read along both ways beside a codec: what floods are made of, and what the codec hides.
mod bucket;
mod flood;
mod inbound;
mod outbound;
mod path;
mod splitter;

pub use bucket::Bucket;
pub use flood::Flood;
pub use inbound::{Inbound, Limits};
pub use outbound::{Outbound, Said, Verdict, error_name};
pub use path::{Fragment, Walker};
pub use splitter::{Frame, Kind, Splitter};
