//! How far a save or a restore is, for people and for machines, and how it is stopped.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use kjump_image::{OnProgress, Progress};
use rustix::termios::tcgetwinsize;

use crate::abort::Abort;
use crate::figures::{percent, Figures};

/// Between two pictures of the bar.
const BAR_EVERY: Duration = Duration::from_millis(250);
/// Between two lines of JSON.
const JSON_EVERY: Duration = Duration::from_secs(1);
/// Between two lines where there is no terminal, percent.
const STEP: u64 = 10;
/// Columns of a console that does not say how many it has.
const COLUMNS: usize = 80;

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// One line, drawn over and over; so many columns.
    Bar(usize),
    /// A line every [`STEP`] percent.
    Lines,
    /// An object a line every [`JSON_EVERY`].
    Json,
}

/// Tells how far something is.
///
/// What cannot be written is left out: a terminal that is gone must not end a save.
pub struct Reporter {
    /// What is being done, as the line begins: `saving`.
    what: &'static str,
    style: Style,
    out: Box<dyn Write>,
    started: Instant,
    /// When something was shown last. The first figures would be those of one chunk, so they are
    /// left out.
    shown: Duration,
    /// The last multiple of [`STEP`] that has had its line.
    step: u64,
    /// Columns in use of a line that is not ended yet.
    open: usize,
}

impl Reporter {
    /// Starts the clock. Output goes to standard output, or to standard error if `stdout_taken`
    /// by the image.
    pub fn new(what: &'static str, json: bool, stdout_taken: bool) -> Self {
        let (out, terminal): (Box<dyn Write>, bool) = if stdout_taken {
            (Box::new(io::stderr()), io::stderr().is_terminal())
        } else {
            (Box::new(io::stdout()), io::stdout().is_terminal())
        };
        let columns = if stdout_taken {
            tcgetwinsize(io::stderr())
        } else {
            tcgetwinsize(io::stdout())
        };
        let columns = columns.map_or(0, |size| usize::from(size.ws_col));
        let style = match (json, terminal, columns) {
            (true, ..) => Style::Json,
            (_, false, _) => Style::Lines,
            // Serial consoles have no size.
            (.., 0) => Style::Bar(COLUMNS),
            (.., n) => Style::Bar(n),
        };
        Self::with(what, style, out)
    }

    /// One that says nothing.
    #[cfg(test)]
    pub fn quiet() -> Self {
        Self::with("", Style::Lines, Box::new(io::sink()))
    }

    fn with(what: &'static str, style: Style, out: Box<dyn Write>) -> Self {
        Self {
            what,
            style,
            out,
            started: Instant::now(),
            shown: Duration::ZERO,
            step: 0,
            open: 0,
        }
    }

    /// Since [`Reporter::new`].
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows how far it is, if it is time to; to be called as often as there is something new.
    pub fn update(&mut self, progress: &Progress) {
        self.update_at(progress, self.elapsed());
    }

    fn update_at(&mut self, progress: &Progress, now: Duration) {
        let due = |every| now >= self.shown + every;
        let step = percent(progress) / STEP;
        let due = match self.style {
            Style::Bar(_) => due(BAR_EVERY),
            // The last line is the end's.
            Style::Lines => step > self.step && step < 100 / STEP,
            Style::Json => due(JSON_EVERY),
        };
        if due {
            self.step = step;
            self.shown = now;
            self.show(progress, now);
        }
    }

    /// Shows the end; what is written after this has a line of its own.
    pub fn finish(&mut self, progress: &Progress) {
        self.finish_at(progress, self.elapsed());
    }

    fn finish_at(&mut self, progress: &Progress, now: Duration) {
        self.show(progress, now);
        self.end_line();
    }

    /// Ends the bar's line, before something else is said.
    pub fn end_line(&mut self) {
        if std::mem::take(&mut self.open) > 0 {
            let _ = self.out.write_all(b"\n");
            let _ = self.out.flush();
        }
    }

    fn show(&mut self, progress: &Progress, now: Duration) {
        let figures = Figures::new(progress, now);
        let text = match self.style {
            Style::Json => figures.json(progress).line() + "\n",
            Style::Lines => format!("{} {}\n", self.what, figures.words()),
            Style::Bar(columns) => {
                let mut line = format!("{} {} {}", self.what, figures.bar(), figures.words());
                // The last column stays free: some terminals go to the next line after it.
                line.truncate(columns.saturating_sub(1));
                let used = line.len();
                // What an older, longer line left.
                line += &" ".repeat(self.open.saturating_sub(used));
                self.open = used.max(1);
                format!("\r{line}")
            }
        };
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}

impl Drop for Reporter {
    /// An error may be told next.
    fn drop(&mut self) {
        self.end_line();
    }
}

/// What [`kjump_image::Options::on_progress`] takes: shows how far it is, and stops when the user
/// says so.
pub fn watch<'a>(reporter: &'a mut Reporter, abort: &'a mut Abort) -> OnProgress<'a> {
    Box::new(move |progress| {
        reporter.update(progress);
        if abort.requested() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A terminal to look at.
    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn progress(pages: u64) -> Progress {
        Progress {
            pages,
            pages_total: 1000,
            memory_bytes: pages * 4096 / 2,
            image_bytes: pages * 1024,
        }
    }

    /// A save of 1000 pages, one each 10 ms.
    fn save(style: Style) -> String {
        let screen = Screen::default();
        let mut r = Reporter::with("saving", style, Box::new(screen.clone()));
        for page in 0..1000 {
            r.update_at(&progress(page), Duration::from_millis(10 * page));
        }
        r.finish_at(&progress(1000), Duration::from_secs(10));
        drop(r);
        screen.text()
    }

    #[test]
    fn a_bar_is_one_line() {
        let text = save(Style::Bar(80));
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.ends_with('\n'));
        // Four a second for ten seconds, and the end.
        let pictures: Vec<&str> = text.trim_end_matches('\n').split('\r').skip(1).collect();
        assert_eq!(pictures.len(), 40);
        let half = "saving [##########----------]  50 %, 0.2 MB/s, ratio 4.00, 5 s left";
        assert_eq!(pictures[19].trim_end(), half);
        let end = "saving [####################] 100 %, 0.2 MB/s, ratio 4.00, 10 s";
        assert_eq!(pictures[39].trim_end(), end);
        assert!(pictures.iter().all(|p| p.len() < 80));
        // Nothing of an older picture shows through.
        assert!(pictures
            .windows(2)
            .all(|w| w[1].len() >= w[0].trim_end().len()));
    }

    #[test]
    fn a_bar_fits_its_terminal() {
        let text = save(Style::Bar(20));
        assert!(text.split('\r').all(|p| p.trim_end().len() < 20), "{text}");
        assert_eq!(save(Style::Bar(0)).matches('\n').count(), 1);
    }

    #[test]
    fn lines_come_each_ten_percent() {
        let text = save(Style::Lines);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[0], "saving  10 %, 0.2 MB/s, ratio 4.00, 9 s left");
        assert_eq!(lines[9], "saving 100 %, 0.2 MB/s, ratio 4.00, 10 s");
        assert!(!text.contains('\r'));
    }

    #[test]
    fn json_comes_each_second() {
        let text = save(Style::Json);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 10);
        assert_eq!(
            lines[9],
            "{\"pages\": 1000, \"pages_total\": 1000, \"memory_bytes\": 2048000, \
             \"image_bytes\": 1024000, \"seconds\": 10.000, \"mb_per_s\": 0.205, \
             \"ratio\": 4.000, \"eta_s\": 0.000}"
        );
        assert!(lines[0].contains("\"pages\": 100,") && lines[0].ends_with("\"eta_s\": 9.000}"));
    }

    #[test]
    fn an_error_has_a_line_of_its_own() {
        let screen = Screen::default();
        let mut r = Reporter::with("saving", Style::Bar(80), Box::new(screen.clone()));
        r.update_at(&progress(5), Duration::from_secs(1));
        drop(r);
        assert!(screen.text().ends_with('\n'));
        let none = Reporter::with("saving", Style::Bar(80), Box::new(screen.clone()));
        let before = screen.text();
        drop(none);
        assert_eq!(screen.text(), before);
    }

    #[test]
    fn a_gone_terminal_ends_nothing() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut r = Reporter::with("saving", Style::Json, Box::new(Gone));
        let mut abort = Abort::never();
        let mut callback = watch(&mut r, &mut abort);
        assert_eq!(callback(&progress(1)), ControlFlow::Continue(()));
        drop(callback);
        abort.request();
        assert_eq!(
            watch(&mut r, &mut abort)(&progress(2)),
            ControlFlow::Break(())
        );
    }
}
