//! What a run looked like: one page that is opened in a browser, and the same for Chrome's and Perfetto's trace viewers.
//!
//! ```text
//! trace (JSON lines) ──▶ Trace ──▶ Timeline ──┬──▶ page      one HTML file: no network, no other file
//!                                             └──▶ perfetto  Chrome trace events, as JSON
//! ```
//!
//! * [`Trace`] reads a trace file; a damaged line and a last line that was cut off are left out, and both are told. It proves
//!   nothing: that is for `quorate-check`, which refuses such a trace.
//! * [`Timeline`] is what the lines mean: lives, terms of masters, transitions, rounds, and which acknowledgement answers
//!   which notification. It judges nothing: that is `quorate-check`'s.
#![forbid(unsafe_code)]

mod align;
mod life;
mod page;
mod perfetto;
mod read;
mod round;
mod table;
mod time;
mod timeline;
mod transition;

pub use life::{Fault, Life, LifeEnd, Spell, SpellKind, Term};
pub use page::page;
pub use perfetto::perfetto;
pub use read::{Damaged, ReadError, Trace};
pub use round::{Round, Step, StepEnd};
pub use timeline::{LevelName, Timeline, Verdict};
pub use transition::{Stage, Stay, Transition, TransitionEnd, Waited};
