//! Threads that compress chunks, each one a time, while others are collected and written. Chunks come back in
//! the order in which they were given.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::desk::{desk, Giver};
use crate::draft::{Draft, Setting};
use crate::error::Error;

/// Bytes of a thread's stack, of which little is touched.
const STACK: usize = 1 << 20;

/// A thread, which ends when its desk is dropped.
struct Hand {
    desk: Option<Giver<Draft, Draft>>,
    thread: Option<JoinHandle<()>>,
}

impl Hand {
    fn hire(setting: &Arc<Setting>) -> io::Result<Self> {
        let setting = Arc::clone(setting);
        let (giver, worker) = desk::<Draft, Draft>();
        let work = move || {
            while let Some(mut draft) = worker.job() {
                draft.press(&setting);
                worker.done(draft);
            }
        };
        let thread = Builder::new().stack_size(STACK).spawn(work)?;
        Ok(Self {
            desk: Some(giver),
            thread: Some(thread),
        })
    }
}

impl Drop for Hand {
    /// The thread has the image's keys; they are wiped when it has ended.
    fn drop(&mut self) {
        drop(self.desk.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The threads.
pub struct Pool {
    /// Those that have something to do, whoever has had it for longest first.
    busy: VecDeque<Hand>,
    idle: Vec<Hand>,
    /// Drafts that nobody has.
    spare: Vec<Draft>,
}

impl Pool {
    /// So many threads, or as many as there is memory for.
    pub fn start(count: usize, setting: &Arc<Setting>) -> Self {
        let mut pool = Self {
            busy: VecDeque::new(),
            idle: Vec::new(),
            spare: Vec::new(),
        };
        for _ in 0..count {
            let (Ok(draft), Ok(hand)) = (Draft::new(setting), Hand::hire(setting)) else {
                break;
            };
            pool.spare.push(draft);
            pool.idle.push(hand);
        }
        pool
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.idle.len() + self.busy.len()
    }

    /// Whether all are busy: [`take`](Self::take) comes before the next [`swap`](Self::swap).
    pub fn is_full(&self) -> bool {
        self.idle.is_empty()
    }

    /// Gives a draft to somebody idle, and puts an empty one in its place.
    pub fn swap(&mut self, draft: &mut Draft) -> Result<(), Error> {
        let (Some(hand), Some(spare)) = (self.idle.pop(), self.spare.pop()) else {
            return Err(Error::Invalid("everybody is busy"));
        };
        if let Some(desk) = &hand.desk {
            desk.give(std::mem::replace(draft, spare));
        }
        self.busy.push_back(hand);
        Ok(())
    }

    /// Waits for the draft that was given first; `None` if none is away. When it has been used,
    /// [`back`](Self::back) is to have it.
    pub fn take(&mut self) -> Result<Option<Draft>, Error> {
        let Some(hand) = self.busy.pop_front() else {
            return Ok(None);
        };
        let draft = hand.desk.as_ref().and_then(Giver::take);
        self.idle.push(hand);
        match draft {
            Some(draft) => Ok(Some(draft)),
            None => Err(Error::Io {
                what: "compressing",
                source: io::Error::other("a thread has ended"),
            }),
        }
    }

    /// Takes a draft for the next [`swap`](Self::swap).
    pub fn back(&mut self, mut draft: Draft) {
        draft.clear();
        self.spare.push(draft);
    }
}
