// SPDX-License-Identifier: GPL-2.0

//! Files full of data that no compressor makes smaller, in a filesystem that lives in memory: in
//! a ramfs they can be neither swapped out nor dropped, so they show how much a machine can save.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::memory::{meminfo, page_words, PAGE};
use crate::{arg, failed, number, Outcome};

/// Pages of a file, 16 MiB; the last one may be shorter.
const FILE_PAGES: u64 = 4096;
/// Pages written or read at once.
const PIECE: u64 = 64;
/// Free pages that must be left for everybody else: 2 MiB.
const LEAVE: usize = 512;

/// The files of a directory, in the order of their pages.
fn files(dir: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    (0..).map(move |number| dir.join(format!("fill-{number:05}")))
}

/// How many pages the argument asks for: `N` per cent of MemTotal, or `NM`, that many MiB.
fn wanted(amount: &str) -> Result<u64, String> {
    let (number, mebibytes) = match amount.strip_suffix('M') {
        Some(number) => (number, true),
        None => (amount, false),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("\"{amount}\" is neither a percentage nor a size as 20M"))?;
    Ok(if mebibytes {
        number * 256
    } else {
        (meminfo("MemTotal")? as u64 * number).div_ceil(100)
    })
}

/// Whether there is memory for more; waits for a moment while the kernel swaps something out.
fn room() -> Result<bool, String> {
    for _ in 0..50 {
        if meminfo("MemFree")? >= LEAVE {
            return Ok(true);
        }
        sleep(Duration::from_millis(100));
    }
    Ok(false)
}

/// `ramfill AMOUNT SEED DIR`: fills DIR with seeded pages until they are AMOUNT (per cent of
/// MemTotal, or MiB as `20M`); what is there of an earlier call counts. Prints
/// `filled PAGES pages, N % of MemTotal`. Fails rather than let the machine run out of memory.
pub fn fill(args: &[String]) -> Outcome {
    let (wanted, seed) = (wanted(arg(args, 0)?)?, number(args, 1)?);
    let dir = Path::new(arg(args, 2)?);
    let mut index = 0;
    let mut bytes = Vec::with_capacity(PIECE as usize * PAGE);
    for path in files(dir) {
        if index >= wanted {
            break;
        }
        let name = path.display().to_string();
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed(&name))?;
        let length = file.metadata().map_err(failed(&name))?.len();
        let mut inside = length / PAGE as u64;
        index += inside;
        while inside < FILE_PAGES && index < wanted {
            if !room()? {
                return Err(format!("no memory left after {index} of {wanted} pages"));
            }
            let count = PIECE.min(FILE_PAGES - inside).min(wanted - index);
            bytes.clear();
            for index in index..index + count {
                page_words(seed, index).for_each(|word| bytes.extend(word.to_le_bytes()));
            }
            file.write_all(&bytes).map_err(failed(&name))?;
            inside += count;
            index += count;
        }
    }
    let percent = index * 100 / meminfo("MemTotal")? as u64;
    println!("filled {index} pages, {percent} % of MemTotal");
    Ok(())
}

/// `ramcheck SEED DIR`: every byte of the files in DIR is what `ramfill` put there. Prints
/// `good PAGES`.
pub fn check(args: &[String]) -> Outcome {
    let seed = number(args, 0)?;
    let dir = Path::new(arg(args, 1)?);
    let mut index = 0;
    let mut bytes = vec![0; PAGE];
    for path in files(dir) {
        let name = path.display().to_string();
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => return Err(format!("{name}: {error}")),
        };
        let pages = fs::metadata(&path).map_err(failed(&name))?.len() / PAGE as u64;
        for inside in 0..pages {
            file.read_exact(&mut bytes).map_err(failed(&name))?;
            let words = bytes.chunks_exact(4);
            let words = words.map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
            if !words.eq(page_words(seed, index)) {
                return Err(format!("{name}: page {inside} is not what was written"));
            }
            index += 1;
        }
    }
    if index == 0 {
        return Err(format!("{}: nothing was written there", dir.display()));
    }
    println!("good {index}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_is_checked_to_the_byte() {
        let dir = std::env::temp_dir().join(format!("kjump-fill-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let args = |list: &[&str]| -> Vec<String> {
            let dir = dir.display().to_string();
            let list = list.iter().map(|arg| arg.to_string());
            list.chain([dir]).collect()
        };
        assert!(check(&args(&["7"])).is_err());
        fill(&args(&["1M", "7"])).unwrap();
        fill(&args(&["17M", "7"])).unwrap();
        assert!(check(&args(&["7"])).is_ok() && check(&args(&["8"])).is_err());
        let second = dir.join("fill-00001");
        let mut bytes = fs::read(&second).unwrap();
        assert_eq!(bytes.len(), 1 << 20);
        bytes[70_000] ^= 1;
        fs::write(&second, bytes).unwrap();
        assert!(check(&args(&["7"])).unwrap_err().contains("page 17"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn amounts() {
        assert_eq!(wanted("20M").unwrap(), 5120);
        assert!(wanted("40").unwrap() > 0 && wanted("x").is_err());
    }
}
