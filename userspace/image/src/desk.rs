//! A desk that two threads share: one gives jobs, one at a time, the other one gives back what became of
//! them. Not a channel of the standard library: that has `mfence` in it, which a Pentium III has not.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What lies on it.
struct Papers<J, D> {
    job: Option<J>,
    done: Option<D>,
    /// One of the two has gone.
    closed: bool,
}

struct Shared<J, D> {
    papers: Mutex<Papers<J, D>>,
    changed: Condvar,
}

impl<J, D> Shared<J, D> {
    fn lock(&self) -> MutexGuard<'_, Papers<J, D>> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something on the desk; `None` once the other thread has gone and left nothing.
    fn take<T>(&self, what: impl Fn(&mut Papers<J, D>) -> Option<T>) -> Option<T> {
        let mut papers = self.lock();
        loop {
            if let Some(there) = what(&mut papers) {
                return Some(there);
            }
            if papers.closed {
                return None;
            }
            let waited = self.changed.wait(papers);
            papers = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put(&self, how: impl FnOnce(&mut Papers<J, D>)) {
        how(&mut self.lock());
        self.changed.notify_all();
    }
}

/// A side of the desk. Dropped, it says that its thread has gone, however it went.
struct Side<J, D>(Arc<Shared<J, D>>);

impl<J, D> Drop for Side<J, D> {
    fn drop(&mut self) {
        self.0.put(|papers| papers.closed = true);
    }
}

/// The side that gives jobs.
pub struct Giver<J, D>(Side<J, D>);

/// The side that does them.
pub struct Worker<J, D>(Side<J, D>);

/// A desk's two sides.
pub fn desk<J, D>() -> (Giver<J, D>, Worker<J, D>) {
    let shared = Arc::new(Shared {
        papers: Mutex::new(Papers {
            job: None,
            done: None,
            closed: false,
        }),
        changed: Condvar::new(),
    });
    (Giver(Side(Arc::clone(&shared))), Worker(Side(shared)))
}

impl<J, D> Giver<J, D> {
    /// After the last one's end was [taken](Self::take).
    pub fn give(&self, job: J) {
        self.0 .0.put(|papers| papers.job = Some(job));
    }

    /// Waits for a job's end; `None` if the worker has gone.
    pub fn take(&self) -> Option<D> {
        self.0 .0.take(|papers| papers.done.take())
    }
}

impl<J, D> Worker<J, D> {
    /// Waits for a job; `None` when there will be no more.
    pub fn job(&self) -> Option<J> {
        self.0 .0.take(|papers| papers.job.take())
    }

    /// Gives back what became of it.
    pub fn done(&self, done: D) {
        self.0 .0.put(|papers| papers.done = Some(done));
    }
}
