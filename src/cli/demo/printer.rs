//! Standard output, from a thread of its own, so that a slow terminal holds up nobody.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::paint::{Color, Style};

/// How many lines wait for the terminal at most; further events are only counted.
const QUEUED: usize = 256;
/// How many events are printed a second at most: more nobody can read.
const EVENTS_PER_SECOND: u32 = 50;

enum Line {
    /// What the demo says itself.
    Say(String),
    Event(String),
}

/// Prints lines one after another.
pub(super) struct Printer {
    lines: Option<SyncSender<Line>>,
    style: Style,
    omitted: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// Prints events.
#[derive(Clone)]
pub(super) struct EventPrinter {
    lines: Option<SyncSender<Line>>,
    omitted: Arc<AtomicU64>,
    /// How events look.
    pub(super) style: Style,
}

impl Printer {
    /// A silent one prints nothing at all.
    pub(super) fn start(style: Style, silent: bool) -> Printer {
        let omitted = Arc::new(AtomicU64::new(0));
        let (lines, thread) = if silent {
            (None, None)
        } else {
            let (lines, queue) = sync_channel(QUEUED);
            let omitted = omitted.clone();
            (Some(lines), Some(std::thread::spawn(move || print(&queue, &omitted, style))))
        };
        Printer { lines, style, omitted, thread }
    }

    /// Prints what the demo has to say.
    pub(super) fn say(&self, text: &str) {
        if let Some(lines) = &self.lines {
            // The thread lives as long as there is a sender.
            let _ = lines.send(Line::Say(text.to_owned()));
        }
    }

    /// For the receiver.
    pub(super) fn events(&self) -> EventPrinter {
        EventPrinter { lines: self.lines.clone(), omitted: self.omitted.clone(), style: self.style }
    }

    /// Prints what is left. Every [`EventPrinter`] must be gone.
    pub(super) async fn finish(mut self) {
        self.lines = None;
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
    }
}

impl EventPrinter {
    /// Prints the line that `format` makes, unless the terminal cannot keep up.
    pub(super) fn print(&self, format: impl FnOnce(Style) -> String) {
        if let Some(lines) = &self.lines
            && lines.try_send(Line::Event(format(self.style))).is_err()
        {
            self.omitted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn print(queue: &Receiver<Line>, omitted: &AtomicU64, style: Style) {
    let mut second = Instant::now();
    let mut printed = 0;
    while let Ok(line) = queue.recv() {
        if second.elapsed() >= Duration::from_secs(1) {
            (second, printed) = (Instant::now(), 0);
        }
        if matches!(line, Line::Event(_)) && printed >= EVENTS_PER_SECOND {
            omitted.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        more(omitted, style);
        match line {
            Line::Say(text) => put(&text),
            Line::Event(text) => {
                printed += 1;
                put(&text);
            }
        }
    }
    more(omitted, style);
}

/// Tells how many were not printed.
fn more(omitted: &AtomicU64, style: Style) {
    let number = omitted.swap(0, Ordering::Relaxed);
    if number > 0 {
        put(&style.paint(Color::Dim, &format!("             … {number} more")));
    }
}

/// A reader that went away (`| head`) is no reason to stop: the summary's exit code still counts.
fn put(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
