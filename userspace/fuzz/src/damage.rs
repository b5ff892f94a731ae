// SPDX-License-Identifier: GPL-2.0

//! Good files with the fuzzer's input as a list of changes to them. A change is an operation, a place
//! and what to put there; most places are where a good file has something else than zeros.

/// Bytes of a line: places are found by lines that are not all zeros.
const LINE: usize = 32;
/// Changes that are made at most.
const MOST: usize = 64;

/// The fuzzer's input, taken from the front; zeros when it is used up.
#[derive(Clone, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// The next so many bytes, or what is left.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(n.min(self.0.len()));
        self.0 = later;
        now
    }

    /// A number of two bytes.
    pub fn short(&mut self) -> usize {
        usize::from(self.byte()) | usize::from(self.byte()) << 8
    }

    /// A number of eight bytes.
    pub fn long(&mut self) -> u64 {
        let mut bytes = [0; 8];
        bytes.fill_with(|| self.byte());
        u64::from_le_bytes(bytes)
    }

    /// Whether there is nothing left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A good file, and where it has something.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// Numbers of the lines that have something.
    lines: Vec<u32>,
}

impl Base {
    /// Of these contents, not empty.
    pub fn new(bytes: Vec<u8>) -> Self {
        let lines = bytes.chunks(LINE).enumerate();
        let lines = lines.filter(|(_, l)| l.iter().any(|b| *b != 0));
        let mut lines: Vec<u32> = lines.map(|(n, _)| n as u32).collect();
        if lines.is_empty() {
            lines.push(0);
        }
        Self { bytes, lines }
    }

    /// The contents, changed as `input` says.
    pub fn damaged(&self, input: &mut Input) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for _ in 0..MOST {
            if input.is_empty() || bytes.is_empty() {
                break;
            }
            self.change(&mut bytes, input);
        }
        bytes
    }

    fn change(&self, bytes: &mut Vec<u8>, input: &mut Input) {
        let op = input.byte();
        let at = self.place(op, bytes.len(), input);
        match op & 7 {
            // A number at the edge of something, of one to eight bytes.
            0..=2 => {
                let number = edge(input).to_le_bytes();
                put(bytes, at, &number[..1 << (op >> 3 & 3)]);
            }
            // A number added to what is there.
            3 => {
                let add = input.byte() as i8;
                let mut old = [0; 8];
                let end = bytes.len().min(at + 8);
                old[..end - at].copy_from_slice(&bytes[at..end]);
                let new = u64::from_le_bytes(old).wrapping_add_signed(add.into());
                put(bytes, at, &new.to_le_bytes()[..1 << (op >> 3 & 3)]);
            }
            // As the fuzzer says.
            4..=5 => {
                let n = 1 + usize::from(op >> 3 & 3) * 5;
                put(bytes, at, input.bytes(n));
            }
            // What is elsewhere.
            6 => {
                let from = self.place(op, bytes.len(), input);
                let end = bytes.len().min(from + 8 + usize::from(op >> 3 & 3) * 24);
                let part = bytes[from..end].to_vec();
                put(bytes, at, &part);
            }
            // Cut off; as a rule at the end of something.
            _ => bytes.truncate(at & !((1 << (op >> 3 & 3)) - 1)),
        }
    }

    /// A place in a file of `len` bytes, not 0.
    fn place(&self, op: u8, len: usize, input: &mut Input) -> usize {
        if op & 0x80 != 0 {
            return (input.short() << 8 | usize::from(input.byte())) % len;
        }
        let line = self.lines[input.short() % self.lines.len()] as usize;
        (line * LINE + usize::from(input.byte()) % (LINE + 8)) % len
    }
}

/// Writes what fits.
fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    let n = what.len().min(bytes.len() - at);
    bytes[at..at + n].copy_from_slice(&what[..n]);
}

/// A power of two, one beside it, or its negative.
fn edge(input: &mut Input) -> u64 {
    let n = input.byte();
    let power = 1u64 << (n & 63);
    match n >> 6 {
        0 => power,
        1 => power - 1,
        2 => power.wrapping_neg(),
        _ => u64::from(input.byte()),
    }
}
