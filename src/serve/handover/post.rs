//! Audit entries on their way from a process that drains to the one that writes the log.
use super::wire::{Content, Line, unexpected};
use crate::store::audit::{AuditLog, Class, Courier, Delivery, Parcel};
use std::io;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Bytes of entries in one frame, unless a single one is longer.
const FRAME: usize = 4 << 20;

/// The end of the line that sends entries.
pub(super) struct Sender(pub(super) Line);

impl Courier for Sender {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> io::Result<()> {
        let mut rest = delivery.parcels.as_slice();
        while !rest.is_empty() {
            let mut length = 0;
            let fits = |parcel: &&Parcel<'_>| {
                length += parcel.body.len();
                length <= FRAME
            };
            let (now, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            self.0.send(Content::Delivery, &encode(now, delivery.durable)?, &[])?;
            match self.0.receive()? {
                (Content::Receipt, ..) => {}
                (content, ..) => return Err(unexpected(&format!("{content:?}"))),
            }
            rest = later;
        }
        Ok(())
    }
}

/// Writes what a predecessor delivers, until it has nothing more to say. Blocks its thread.
pub(super) fn receive(line: &mut Line, audit: &Arc<AuditLog>, runtime: &Handle) -> io::Result<()> {
    loop {
        let (payload, last) = match line.receive() {
            Ok((Content::Delivery, payload, _)) => (payload, false),
            Ok((content, ..)) => return Err(unexpected(&format!("{content:?}"))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => (Vec::new(), true),
            Err(error) => return Err(error),
        };
        if last {
            return Ok(());
        }
        let delivery = decode(&payload).ok_or_else(|| unexpected("a delivery that is cut"))?;
        runtime.block_on(audit.receive(&delivery)).map_err(io::Error::other)?;
        line.send(Content::Receipt, &[], &[])?;
    }
}

/// One byte that says whether it is durable; for each entry its class, its length and itself.
fn encode(parcels: &[Parcel<'_>], durable: bool) -> io::Result<Vec<u8>> {
    let mut out = vec![u8::from(durable)];
    for parcel in parcels {
        out.push(match parcel.class {
            Class::Request => 0,
            Class::Intent => 1,
            Class::System => 2,
        });
        let length = u32::try_from(parcel.body.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(parcel.body);
    }
    Ok(out)
}

fn decode(bytes: &[u8]) -> Option<Delivery<'_>> {
    let (durable, mut rest) = bytes.split_first()?;
    let mut parcels = Vec::new();
    while let Some((class, after)) = rest.split_first() {
        let class = match class {
            0 => Class::Request,
            1 => Class::Intent,
            2 => Class::System,
            _ => return None,
        };
        let (length, after) = after.split_first_chunk::<4>()?;
        let (body, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        parcels.push(Parcel { class, body });
        rest = after;
    }
    Some(Delivery { parcels, durable: *durable == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_arrives_as_it_was_and_a_cut_one_not_at_all() {
        let parcels = [(Class::Intent, &b"a"[..]), (Class::Request, &b"bcd"[..]), (Class::System, &b""[..])]
            .map(|(class, body)| Parcel { class, body });
        let bytes = encode(&parcels, true).unwrap();
        let whole = decode(&bytes).unwrap();
        assert!(whole.durable);
        assert_eq!(whole.parcels, parcels);
        let ends: Vec<_> = (0..bytes.len()).filter(|end| decode(&bytes[..*end]).is_some()).collect();
        assert_eq!(ends, [1, 7, 15], "only where an entry ends");
    }
}
