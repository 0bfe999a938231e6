//! The live view on a full screen: takes the terminal over, reads its keys, draws what changed.
//!
//! The terminal is given back when the screen is dropped, when a thread panics, and at the second interrupt. After a panic nothing
//! more is drawn.

pub mod draw;
pub mod facts;
pub mod keys;
pub mod meter;
pub mod status;
pub mod steps;

use std::io::{self, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use quorate_launch::interrupt;
use quorate_trace::TraceStore;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{Event, KeyEvent, KeyEventKind};
use ratatui::crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use ratatui::crossterm::{cursor, event, execute, queue};

use draw::Palette;
use facts::Facts;
use keys::{Asked, Ui};

/// The terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What came from the terminal.
#[derive(Debug)]
enum Came {
    Key(KeyEvent),
    Resized,
    /// The terminal is gone.
    End,
}

/// The full screen.
#[derive(Debug)]
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    came: Receiver<Came>,
    /// What the user has chosen to see.
    pub ui: Ui,
    palette: Palette,
    /// Something that does not stand in the facts has changed.
    touched: bool,
}

impl Screen {
    /// Takes the terminal over. Each key wakes those who wait at `store`.
    ///
    /// # Errors
    /// If it is no terminal that can be drawn on.
    pub fn open(store: &TraceStore) -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        interrupt::before_end(give_back);
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::Release);
        let opened = execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        let terminal = opened.inspect_err(|_| give_back())?;
        let (send, came) = channel();
        let store = store.clone();
        // The thread ends with the process: a read from a terminal cannot be called off.
        let reader = move || {
            loop {
                let came = match event::read() {
                    Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Came::Key(key),
                    Ok(Event::Resize(..)) => Came::Resized,
                    Ok(_) => continue,
                    Err(_) => Came::End,
                };
                let last = matches!(came, Came::End);
                if send.send(came).is_err() {
                    return;
                }
                store.wake();
                if last {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("keys".into()).spawn(reader).inspect_err(|_| give_back())?;
        Ok(Self { terminal, came, ui: Ui::default(), palette: palette(), touched: true })
    }

    /// Commands since the last call.
    pub fn typed(&mut self, facts: &Facts) -> Vec<String> {
        let mut lines = Vec::new();
        for came in self.came.try_iter() {
            self.touched = true;
            match came {
                Came::Resized => {}
                Came::End => lines.push("quit".to_owned()),
                Came::Key(key) => match self.ui.key(key, facts) {
                    Asked::Look => {}
                    // What another program wrote over the picture goes with it.
                    Asked::Redraw => drop(self.terminal.clear()),
                    Asked::Line(line) => lines.push(line),
                },
            }
        }
        lines
    }

    /// Whether a key came since the last picture.
    pub fn is_touched(&self) -> bool {
        self.touched
    }

    /// Draws what changed.
    pub fn show(&mut self, facts: &Facts) {
        self.touched = false;
        if !TAKEN.load(Ordering::Acquire) {
            return;
        }
        let (ui, palette) = (&self.ui, self.palette);
        // Nothing can be done if the terminal is gone; the next read of it ends the command.
        let _ = queue!(io::stdout(), BeginSynchronizedUpdate);
        let _ = self.terminal.draw(|frame| draw::draw(frame, facts, ui, palette));
        let _ = execute!(io::stdout(), EndSynchronizedUpdate);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// The terminal is the user's again. To be called from anywhere, also more than once.
fn give_back() {
    if TAKEN.swap(false, Ordering::AcqRel) {
        let _ = execute!(io::stdout(), EndSynchronizedUpdate, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
        let _ = io::stdout().flush();
    }
}

/// Whether this terminal can be drawn on at all.
pub fn is_drawable() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// No colours where the user wants none (no-color.org).
fn palette() -> Palette {
    Palette { colours: std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()) }
}

#[cfg(test)]
pub mod tests;
