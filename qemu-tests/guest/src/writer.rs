// SPDX-License-Identifier: GPL-2.0

//! A file that is being written while the machine steps aside: records that can be checked one
//! by one, so that a lost, doubled or torn one shows.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::thread::sleep;
use std::time::Duration;

use crate::blocks::splitmix64;
use crate::counter::Progress;
use crate::{arg, failed, number, Outcome};

/// Bytes of a record: odd on purpose, so that records straddle blocks.
const RECORD: usize = 1000;

/// Record `index`: its number, then bytes that follow from it.
fn record(index: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..8].copy_from_slice(&index.to_le_bytes());
    for (i, chunk) in bytes[8..].chunks_mut(8).enumerate() {
        let word = splitmix64(index << 16 | i as u64).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    bytes
}

/// `writer FILE PROGRESS`: keeps FILE open and appends records, with an fsync every tenth; the
/// number of records that are safely on the disk goes to PROGRESS.
pub fn run(args: &[String]) -> Outcome {
    let path = arg(args, 0)?;
    let progress = Progress::create(arg(args, 1)?)?;
    let mut file = OpenOptions::new()
        .create_new(true)
        .append(true)
        .open(path)
        .map_err(failed(path))?;
    for index in 0.. {
        file.write_all(&record(index)).map_err(failed(path))?;
        if index % 10 == 9 {
            file.sync_data().map_err(failed(path))?;
            progress.set(index + 1)?;
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// `writer-verify FILE [SAFE]`: every record is the one that belongs there; a last one that is still
/// being written may be short. After a power cut only the first SAFE ones, which an fsync had put on
/// the disk, must be there: what was appended later to a block that was on the disk already may
/// read as zeros. Prints `records N`.
pub fn verify(args: &[String]) -> Outcome {
    let path = arg(args, 0)?;
    let safe = match args.get(1) {
        Some(_) => number(args, 1)?,
        None => u64::MAX,
    };
    let mut file = File::open(path).map_err(failed(path))?;
    let mut bytes = [0; RECORD];
    for index in 0u64.. {
        match file.read_exact(&mut bytes) {
            Ok(()) if bytes == record(index) => {}
            Ok(()) if index < safe => {
                return Err(format!("{path}: record {index} is not what was written"));
            }
            Ok(()) => {
                println!("records {index}");
                break;
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                if args.len() > 1 && index < safe {
                    return Err(format!("{path}: {index} records of {safe} are there"));
                }
                println!("records {index}");
                break;
            }
            Err(error) => return Err(format!("{path}: record {index}: {error}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_differ_and_name_themselves() {
        assert_eq!(record(7), record(7));
        assert_ne!(record(7)[8..], record(8)[8..]);
        assert_eq!(record(7)[..8], 7u64.to_le_bytes());
    }
}
