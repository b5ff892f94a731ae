//! The watchdog: armed before anything else is done, fed by a thread, disarmed before a jump back
//! (it would go on counting while the other kernel runs), left hungry on purpose by `hang`.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::say;
use crate::device;

const DEVICE: &str = "/dev/watchdog0";

/// A watchdog; the default is none.
#[derive(Default)]
pub struct Watchdog {
    seconds: u32,
    /// What the thread feeds; `None` while it is disarmed.
    file: Arc<Mutex<Option<File>>>,
}

impl Watchdog {
    /// Arms the watchdog and keeps it fed. Without one it says so and goes on.
    pub fn start(seconds: u32) -> Self {
        let dog = Watchdog {
            seconds,
            file: Arc::default(),
        };
        dog.arm();
        let file = dog.file.clone();
        let pause = Duration::from_secs(u64::from(seconds / 3).max(1));
        let feed = move || loop {
            if let Some(file) = file.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                let _ = file.write_all(b"\0");
            }
            thread::sleep(pause);
        };
        if let Err(e) = thread::Builder::new().stack_size(64 << 10).spawn(feed) {
            dog.disarm();
            say(format_args!("watchdog: not armed: {e}"));
        }
        dog
    }

    /// Arms it, if there is to be one.
    pub fn arm(&self) {
        if self.seconds == 0 {
            return;
        }
        match File::options().write(true).open(DEVICE) {
            Err(e) => say(format_args!("watchdog: {DEVICE}: {e}")),
            Ok(file) => {
                match device::set_watchdog_timeout(&file, self.seconds) {
                    Ok(seconds) => say(format_args!("watchdog: armed, {seconds} s")),
                    Err(e) => say(format_args!("watchdog: armed, its timeout stays: {e}")),
                }
                *self.lock() = Some(file);
            }
        }
    }

    /// Disarms it: `V` is the magic word without which closing would not.
    pub fn disarm(&self) {
        if let Some(mut file) = self.lock().take() {
            if let Err(e) = file.write_all(b"V") {
                say(format_args!("watchdog: cannot be disarmed: {e}"));
            }
        }
    }

    /// Leaves it armed and feeds it no more.
    pub fn starve(&self) {
        // Dropping the file would be a close, which some drivers take for the end.
        std::mem::forget(self.lock().take());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
