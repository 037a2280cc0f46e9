//! The user's terminal in raw mode, restored on drop.

use std::io::stdin;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Raw mode for as long as it lives.
pub struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Enters raw mode; `None` where standard input is no terminal.
    pub fn enter() -> Option<Self> {
        if !isatty(stdin()) {
            return None;
        }
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(RawTerminal { before })
    }

    /// Columns and rows.
    pub fn size(&self) -> Option<(u32, u32)> {
        let size = tcgetwinsize(stdin()).ok()?;
        Some((size.ws_col.into(), size.ws_row.into()))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
