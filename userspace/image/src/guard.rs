//! Guards: what filesystems and swap areas looked like when the image was made.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::buffer::Aligned;
use crate::crypt::Keys;
use crate::error::{Error, Refusal};
use crate::layout::{GuardRecord, GuardsHead, GUARDS_MAGIC, GUARDS_SIZE, MAX_GUARDS, VERSION};
use crate::mark::digest;

/// A record about one device. Its content is its writer's; an image carries up to
/// [`MAX_GUARDS`] of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// What was recorded, and how `data` reads.
    pub kind: u32,
    /// Which device; a filesystem's UUID, say.
    pub device: [u8; 16],
    /// Its name for people, without NUL; cut off at 104 bytes.
    pub label: String,
    /// Up to 256 bytes that any writable mount would change.
    pub data: Vec<u8>,
}

const HEAD: usize = size_of::<GuardsHead>();
const RECORD: usize = size_of::<GuardRecord>();

/// All records as they lie on the disk.
pub fn encode(guards: &[Guard]) -> Result<Aligned, Error> {
    encode_sealed(guards, None)
}

/// The same, sealed if there are keys.
pub(crate) fn encode_sealed(guards: &[Guard], keys: Option<&Keys>) -> Result<Aligned, Error> {
    if guards.len() > MAX_GUARDS {
        return Err(Error::Invalid(
            "more guards than an image has room for (117)",
        ));
    }
    let mut region = Aligned::new(GUARDS_SIZE as usize)?;
    let bytes = region.bytes_mut();
    for (guard, place) in guards.iter().zip(bytes[HEAD..].chunks_exact_mut(RECORD)) {
        place.copy_from_slice(guard.record()?.as_bytes());
    }
    let mut head = GuardsHead::new_zeroed();
    head.magic = GUARDS_MAGIC;
    head.version.set(VERSION);
    head.record_size.set(RECORD as u32);
    head.count.set(guards.len() as u32);
    bytes[..HEAD].copy_from_slice(head.as_bytes());
    if let Some(keys) = keys {
        head.seal = keys.guards(&digest(bytes));
        bytes[..HEAD].copy_from_slice(head.as_bytes());
    }
    head.crc.set(crc32fast::hash(bytes));
    bytes[..HEAD].copy_from_slice(head.as_bytes());
    Ok(region)
}

/// What was sealed of a region, as a digest, and the seal.
pub(crate) fn proof(region: &[u8]) -> ([u8; 32], [u8; 32]) {
    let Ok((mut head, rest)) = GuardsHead::read_from_prefix(region) else {
        return Default::default();
    };
    let seal = std::mem::take(&mut head.seal);
    head.crc.set(0);
    let mut hasher = blake3::Hasher::new();
    hasher.update(head.as_bytes());
    hasher.update(rest);
    (hasher.finalize().into(), seal)
}

/// The records in their region.
pub fn decode(region: &[u8]) -> Result<Vec<Guard>, Refusal> {
    let Ok((mut head, _)) = GuardsHead::read_from_prefix(region) else {
        return Err(Refusal::Torn { what: "the guards" });
    };
    let damaged = |what| Err(Refusal::Damaged { what });
    if head.magic != GUARDS_MAGIC {
        return damaged("the guards have no magic");
    }
    let (crc, rest) = (head.crc.get(), &region[HEAD..]);
    head.crc.set(0);
    let mut sum = crc32fast::Hasher::new();
    sum.update(head.as_bytes());
    sum.update(rest);
    if sum.finalize() != crc {
        return damaged("the guards do not match their checksum");
    }
    if head.version != VERSION {
        let (what, number) = ("version of the guards", head.version.get());
        return Err(Refusal::BadVersion { what, number });
    }
    let count = head.count.get() as usize;
    if head.record_size != RECORD as u32 || count > rest.len() / RECORD {
        return damaged("the guards contradict themselves");
    }
    let records = rest.chunks_exact(RECORD).take(count);
    records.map(Guard::parse).collect()
}

impl Guard {
    fn record(&self) -> Result<GuardRecord, Error> {
        let mut record = GuardRecord::new_zeroed();
        let Some(data) = record.data.get_mut(..self.data.len()) else {
            return Err(Error::Invalid("a guard's data is longer than 256 bytes"));
        };
        data.copy_from_slice(&self.data);
        record.kind.set(self.kind);
        record.data_len.set(self.data.len() as u32);
        record.device = self.device;
        let label = &self.label[..self.label.floor_char_boundary(record.label.len())];
        record.label[..label.len()].copy_from_slice(label.as_bytes());
        Ok(record)
    }

    fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let record = GuardRecord::read_from_bytes(bytes).ok();
        let guard = record.and_then(|r| {
            let data = r.data.get(..r.data_len.get() as usize)?;
            Some(Self {
                kind: r.kind.get(),
                device: r.device,
                label: text(&r.label),
                data: data.to_vec(),
            })
        });
        let what = "a guard's data is longer than its record";
        guard.ok_or(Refusal::Damaged { what })
    }
}

/// Text up to the first NUL.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_come_back() {
        let guards: Vec<Guard> = (0..MAX_GUARDS)
            .map(|i| Guard {
                kind: i as u32,
                device: [i as u8; 16],
                label: "ü".repeat(i),
                data: vec![i as u8; 2 * i],
            })
            .collect();
        let region = encode(&guards).unwrap();
        let back = decode(region.bytes()).unwrap();
        assert_eq!(back.len(), guards.len());
        assert_eq!(back[..53], guards[..53]);
        assert_eq!(back[60].label, "ü".repeat(52));
        assert!(encode(&[guards, vec![Guard::default()]].concat()).is_err());
        let data = vec![0; 257];
        assert!(encode(&[Guard {
            data,
            ..Guard::default()
        }])
        .is_err());
    }
}
