//! The picture: nodes and levels, who hears whom, what is under way, the log, the keys.
//!
//! ```text
//! Quorate  3 nodes · view 6 · ballot 65 · master 1 · …            time
//!  node   machine  inc state    0 membership  60 probe-a … frm/s  io/s
//!  hears  (a row hears a column: network / disk, ms)    │ under way
//!  log
//!  keys, or the command line
//! ```
//! Colours are the terminal's own sixteen without a background, so that they can be read on light and on dark; each says
//! what a word or a sign beside it says too.

use quorate_base::{NodeId, NodeState};
use quorate_launch::MachineState;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

use super::facts::{Facts, Machine};
use super::keys::Ui;
use super::meter::Meter;
use super::status::Heard;
use super::steps::Step;
use crate::commands::VERBS;

/// A smaller terminal is told so.
pub const WIDTH_MIN: u16 = 60;
/// Likewise.
pub const HEIGHT_MIN: u16 = 14;

/// From this width on frames and disk operations are told by direction.
const WIDE: u16 = 110;

/// Characters of a level's column: `forced b1 2/3`.
const LEVEL_WIDTH: usize = 13;

/// Characters of a cell of who hears whom: `!1234/1234x`.
const HEARD_WIDTH: usize = 11;

/// What is under way needs so many characters beside it.
const UNDER_WAY_WIDTH: usize = 40;

/// What is not known.
const UNKNOWN: &str = "–";

/// With colours, or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    /// Colours may be used.
    pub colours: bool,
}

impl Palette {
    fn colour(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn good(self) -> Style {
        self.colour(Color::Green)
    }

    fn moving(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn faint() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn strong() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn state(self, state: Option<NodeState>) -> Style {
        match state {
            Some(NodeState::Joined) => self.good(),
            Some(NodeState::Joining | NodeState::Leaving) => self.moving(),
            Some(NodeState::ForcedLeaving) => self.bad(),
            Some(NodeState::Inactive) | None => Self::faint(),
        }
    }
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, facts: &Facts, ui: &Ui, palette: Palette) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let Rect { width, height, .. } = area;
        let lines = [
            format!("this terminal has {width}×{height} characters;"),
            format!("the live view needs {WIDTH_MIN}×{HEIGHT_MIN}"),
            "(q ends; `--plain` needs no room)".to_owned(),
        ];
        frame.render_widget(Paragraph::new(lines.map(Line::from).to_vec()), area);
        return;
    }
    let picture = Picture { facts, ui, palette, width: usize::from(area.width) };
    let all = facts.nodes.len();
    // A third of what there is goes to nodes, a third to who hears whom, and the log has what is left.
    let rows = all.min((usize::from(area.height) - 6) / 3).max(1);
    let first = usize::from(ui.selected.get()).saturating_sub(rows - 1).min(all - rows.min(all));
    let shown: Vec<NodeId> = facts.nodes.iter().skip(first).take(rows).collect();
    let mut lines = vec![picture.title()];
    lines.extend(picture.nodes(&shown));
    lines.extend(picture.middle(&shown));
    let left = usize::from(area.height).saturating_sub(lines.len() + 2);
    lines.extend(picture.log(left));
    lines.push(picture.bottom());
    frame.render_widget(Paragraph::new(lines), area);
    if let Some(line) = &ui.line {
        picture.choices(frame, area);
        let column = (line.chars().count() + 1).min(picture.width - 1) as u16;
        frame.set_cursor_position(Position::new(column, area.height - 1));
    }
    if ui.help {
        help(frame, area);
    }
}

struct Picture<'a> {
    facts: &'a Facts,
    ui: &'a Ui,
    palette: Palette,
    width: usize,
}

impl Picture<'_> {
    fn title(&self) -> Line<'static> {
        let facts = self.facts;
        let view = facts.beliefs.newest_view(facts.live());
        let number = view.map_or_else(|| UNKNOWN.to_owned(), |v| v.number.to_string());
        let master = facts.master();
        let ballot = master.and_then(|m| facts.beliefs.life(m).holds);
        let ballot = ballot.map_or_else(|| UNKNOWN.to_owned(), |b| b.to_string());
        let who = master.map_or_else(|| UNKNOWN.to_owned(), |m| m.to_string());
        let joined = facts.beliefs.joined(facts.live()).len();
        let said = format!(
            "  {joined} of {} nodes joined · view {number} · ballot {ballot} · master {who}",
            facts.nodes.len()
        );
        let clock = format!("{:.1} s", facts.now_us as f64 / 1e6);
        let used = "Quorate".len() + said.chars().count() + clock.len();
        let about = format!(" · {}", facts.about);
        let about = if used + about.chars().count() < self.width { about } else { String::new() };
        let gap = self.width.saturating_sub(used + about.chars().count());
        Line::from(vec![
            Span::styled("Quorate", Palette::strong()),
            Span::raw(said),
            Span::styled(about, Palette::faint()),
            Span::raw(" ".repeat(gap)),
            Span::raw(clock),
        ])
    }

    /// Characters of the frames' and the disk operations' columns.
    fn rate_widths(&self) -> &'static [(&'static str, usize)] {
        if self.width >= usize::from(WIDE) {
            &[("frm out", 7), ("frm in", 6), ("reads/s", 7), ("wrts/s", 6)]
        } else {
            &[("frm/s", 5), ("io/s", 5)]
        }
    }

    /// Which levels there is room for, and how many are to the right of them.
    fn levels(&self) -> (Vec<(u16, String)>, usize) {
        let all = self.facts.levels();
        let rates: usize = self.rate_widths().iter().map(|(_, w)| w + 1).sum();
        let room = self.width.saturating_sub(26 + rates) / (LEVEL_WIDTH + 1);
        let left = self.ui.levels_left.min(all.len().saturating_sub(room));
        let shown: Vec<_> = all.iter().skip(left).take(room.max(1)).map(|(l, name)| (*l, name.clone())).collect();
        let right = all.len() - left - shown.len();
        (shown, right)
    }

    fn nodes(&self, shown: &[NodeId]) -> Vec<Line<'static>> {
        let (levels, right) = self.levels();
        let mut head = format!("{:<4} {:<8} {:<3} {:<8}", "node", "machine", "inc", "state");
        for (index, (order, name)) in levels.iter().enumerate() {
            let more = if right > 0 && index + 1 == levels.len() { format!(" +{right}>") } else { String::new() };
            let name = cut(&format!("{order} {name}"), LEVEL_WIDTH - more.len());
            head += &format!(" {:<LEVEL_WIDTH$}", format!("{name}{more}"));
        }
        let rates: String = self.rate_widths().iter().map(|(name, w)| format!(" {name:>w$}")).collect();
        let gap = self.width.saturating_sub(head.chars().count() + rates.chars().count());
        head = format!("{head}{}{rates}", " ".repeat(gap));
        let mut lines = vec![Line::styled(head, Palette::strong().add_modifier(Modifier::UNDERLINED))];
        lines.extend(shown.iter().map(|node| self.node(*node, &levels)));
        lines
    }

    fn node(&self, node: NodeId, levels: &[(u16, String)]) -> Line<'static> {
        let (facts, palette) = (self.facts, self.palette);
        let life = facts.beliefs.life(node);
        let selected = node == self.ui.selected;
        let name = format!(
            "{}{node}{}",
            if selected { ">" } else { " " },
            if facts.master() == Some(node) { "*" } else { "" }
        );
        let (machine, machine_style) = self.machine(node);
        let state = facts.state(node, None);
        let inc = life.inc.map_or_else(|| UNKNOWN.to_owned(), |i| i.to_string());
        let mut spans = vec![
            Span::styled(padded(&name, 4), if selected { Palette::strong() } else { Style::new() }),
            Span::raw(" "),
            Span::styled(padded(machine, 8), machine_style),
            Span::raw(format!(" {} ", padded(&inc, 3))),
            Span::styled(padded(state.map_or(UNKNOWN, whole), 8), palette.state(state)),
        ];
        for (level, _) in levels {
            let state = facts.state(node, Some(*level));
            let text = match facts.steps.at(*level, node) {
                Some(step) => stepping(step),
                None => state.map_or(UNKNOWN, whole).to_owned(),
            };
            spans.push(Span::raw(" "));
            spans.push(Span::styled(padded(&text, LEVEL_WIDTH), palette.state(state)));
        }
        let used: usize = spans.iter().map(Span::width).sum();
        let rates = self.rates(facts.machine(node));
        let wanted: usize = rates.iter().map(Span::width).sum();
        spans.push(Span::raw(" ".repeat(self.width.saturating_sub(used + wanted))));
        spans.extend(rates);
        Line::from(spans)
    }

    fn machine(&self, node: NodeId) -> (&'static str, Style) {
        let machine = self.facts.machine(node);
        let life = self.facts.beliefs.life(node);
        let panicked = life.end.as_ref().is_some_and(|end| end.panic);
        match machine.and_then(|m| m.state.as_ref()) {
            None | Some(MachineState::NotStarted) => ("off", Palette::faint()),
            Some(MachineState::Killed) => ("killed", self.palette.bad()),
            Some(MachineState::Exited { .. }) => ("ended", self.palette.bad()),
            Some(MachineState::Halted { wanted: false, .. }) => ("panicked", self.palette.bad()),
            Some(MachineState::Halted { .. }) => ("halted", Palette::faint()),
            Some(MachineState::Paused | MachineState::Frozen) => ("paused", self.palette.moving()),
            Some(MachineState::Running) if panicked => ("panicked", self.palette.bad()),
            Some(MachineState::Running) if machine.is_some_and(|m| m.frozen) => ("FROZEN", self.palette.bad()),
            Some(MachineState::Running) if life.inc.is_none() => ("boots", self.palette.moving()),
            Some(MachineState::Running) => ("runs", self.palette.good()),
        }
    }

    fn rates(&self, machine: Option<&Machine>) -> Vec<Span<'static>> {
        let now_us = self.facts.now_us;
        let of = |meter: fn(&Machine) -> &Meter| machine.and_then(|m| meter(m).per_second(now_us));
        let (out, back) = (of(|m| &m.frames.0), of(|m| &m.frames.1));
        let (reads, writes) = (of(|m| &m.disk.0), of(|m| &m.disk.1));
        let both = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a + b);
        let values = match self.rate_widths().len() {
            4 => vec![out, back, reads, writes],
            _ => vec![both(out, back), both(reads, writes)],
        };
        let last = values.len() - 1;
        let stalled = machine.is_some_and(|m| m.stalled);
        let cell = |(index, (value, (_, width))): (usize, (Option<f64>, &(&str, usize)))| match index == last && stalled
        {
            true => Span::styled(format!(" {:>width$}", "STALL"), self.palette.bad()),
            false => Span::raw(format!(" {:>width$}", rate(value))),
        };
        values.into_iter().zip(self.rate_widths()).enumerate().map(cell).collect()
    }

    /// Who hears whom, and beside it what is under way.
    fn middle(&self, shown: &[NodeId]) -> Vec<Line<'static>> {
        let room = self.width.saturating_sub(6 + UNDER_WAY_WIDTH) / HEARD_WIDTH;
        let room = room.max(1).min(self.facts.nodes.len());
        let first = usize::from(self.ui.selected.get()).saturating_sub(room - 1).min(self.facts.nodes.len() - room);
        let peers: Vec<NodeId> = self.facts.nodes.iter().skip(first).take(room).collect();
        let left = 5 + room * HEARD_WIDTH + 1;
        let mut rows = vec![vec![Span::styled(padded(&heard_head(&peers), left), Palette::strong())]];
        rows.extend(shown.iter().map(|viewer| self.hears(*viewer, &peers, left)));
        // Room for the groups and for at least three things under way.
        while rows.len() < 5 {
            rows.push(vec![Span::raw(" ".repeat(left))]);
        }
        let beside = self.under_way(rows.len() - 1, self.width.saturating_sub(left + 2));
        let legend = " hears: network/disk age in ms · ! suspected · x cut ";
        let short = " hears: network/disk age in ms ";
        let name = if legend.chars().count() + 2 <= left { legend } else { short };
        let rule = self.rule(name, left, "┬─ under way ");
        let with = |(mut row, right): (Vec<Span<'static>>, Line<'static>)| {
            row.push(Span::styled("│ ", Palette::faint()));
            row.extend(right.spans);
            Line::from(row)
        };
        std::iter::once(rule).chain(rows.into_iter().zip(beside).map(with)).collect()
    }

    fn rule(&self, name: &str, at: usize, right: &str) -> Line<'static> {
        let mut text = format!("──{name}");
        let missing = at.saturating_sub(text.chars().count());
        text += &"─".repeat(missing);
        text += right;
        let missing = self.width.saturating_sub(text.chars().count());
        text += &"─".repeat(missing);
        Line::styled(cut(&text, self.width), Palette::faint())
    }

    fn hears(&self, viewer: NodeId, peers: &[NodeId], width: usize) -> Vec<Span<'static>> {
        let facts = self.facts;
        let name = format!("{}{viewer}", if viewer == self.ui.selected { ">" } else { " " });
        let mut spans = vec![Span::raw(padded(&name, 5))];
        let said = facts.said(viewer);
        for peer in peers {
            let (text, style) = if *peer == viewer {
                let lease = said.and_then(|s| s.lease_ms);
                (lease.map_or_else(|| UNKNOWN.to_owned(), |ms| format!("lease {}", age(Some(ms)))), Palette::faint())
            } else {
                self.heard(viewer, *peer, said.and_then(|s| s.peers.get(&peer.get())).copied())
            };
            spans.push(Span::styled(format!("{text:>width$}", width = HEARD_WIDTH - 1), style));
            spans.push(Span::raw(" "));
        }
        let used: usize = spans.iter().map(Span::width).sum();
        spans.push(Span::raw(" ".repeat(width.saturating_sub(used))));
        spans
    }

    fn heard(&self, viewer: NodeId, peer: NodeId, heard: Option<Heard>) -> (String, Style) {
        let suspects = self.facts.machine(viewer).map(|m| m.suspects).unwrap_or_default();
        let live = self.facts.live().contains(viewer);
        let mark = |suspected: bool| if suspected && live { "!" } else { "" };
        let (net, disk) = (suspects.0.contains(peer), suspects.1.contains(peer));
        let Heard { net_ms, disk_ms } = heard.unwrap_or_default();
        let cut = if self.facts.is_cut(viewer, peer) { "x" } else { "" };
        let text = format!("{}{}/{}{}{cut}", mark(net), age(net_ms), mark(disk), age(disk_ms));
        let style = match (live && (net || disk), heard) {
            (true, _) => self.palette.bad(),
            (false, None) => Palette::faint(),
            (false, Some(_)) => Style::new(),
        };
        (text, style)
    }

    /// What is under way, in so many lines and the groups' line.
    fn under_way(&self, rows: usize, width: usize) -> Vec<Line<'static>> {
        let mut items = self.boots();
        items.extend(self.facts.steps.all().map(|(level, subject, step)| self.step(level, subject, step)));
        items.extend(self.between_levels());
        items.extend(self.waits());
        items.extend(self.faults());
        if items.is_empty() {
            items.push(("nothing is under way".to_owned(), Palette::faint()));
        }
        let pieces = |(text, style): (String, Style)| {
            wrapped(&text, width, 2).into_iter().map(move |piece| Line::styled(piece, style))
        };
        let mut lines: Vec<Line<'static>> = items.into_iter().flat_map(pieces).collect();
        if lines.len() > rows {
            let more = lines.len() + 1 - rows;
            lines.truncate(rows.saturating_sub(1));
            lines.push(Line::styled(format!("and {more} more lines"), Palette::faint()));
        }
        lines.resize(rows, Line::default());
        // The groups' place: there are none yet.
        lines.push(Line::styled(format!("groups {UNKNOWN}"), Palette::faint()));
        lines
    }

    /// A bar for each node that is on its way.
    fn boots(&self) -> Vec<(String, Style)> {
        let bar = |node: NodeId| {
            let (reached, all, next) = self.facts.way(node)?;
            let started_us = self.facts.machine(node).and_then(|m| m.started_us)?;
            let seconds = self.facts.now_us.saturating_sub(started_us) as f64 / 1e6;
            let full = reached * 10 / all;
            let (full, empty) = ("█".repeat(full), "░".repeat(10 - full));
            Some((format!("{node} {full}{empty} {reached}/{all} {next}, {seconds:.1} s"), self.palette.moving()))
        };
        self.facts.nodes.iter().filter_map(bar).collect()
    }

    fn step(&self, level: u16, subject: u8, step: &Step) -> (String, Style) {
        let word = step.transition.map_or(UNKNOWN, NodeState::name);
        let seconds = self.facts.now_us.saturating_sub(step.since_us) as f64 / 1e6;
        let waits = match step.awaiting() {
            none if none.is_empty() => String::new(),
            nodes => format!(" waits for {nodes},"),
        };
        let text = format!("{subject} {word} at {level} b{}:{waits} {seconds:.1} s", step.barrier);
        (text, self.palette.state(step.transition))
    }

    fn between_levels(&self) -> Vec<(String, Style)> {
        let facts = self.facts;
        let moving = facts.nodes.iter().filter(|n| facts.way(*n).is_none());
        moving.filter_map(|n| Some((facts.between_levels(n)?, self.palette.state(facts.state(n, None))))).collect()
    }

    /// Why a node is not in, in its own words.
    fn waits(&self) -> Vec<(String, Style)> {
        let why = |node: NodeId| {
            let said = self.facts.said(node)?;
            let why = said.refused.as_ref().map(|why| format!("{node} refused: {why}"));
            why.or_else(|| said.born.as_ref().map(|waits| format!("{node} waits for {waits}")))
        };
        self.facts.live().iter().filter_map(why).map(|text| (text, self.palette.bad())).collect()
    }

    fn faults(&self) -> Vec<(String, Style)> {
        let cuts: Vec<String> = self.facts.cuts.iter().map(|(a, b)| format!("{a}-{b}")).collect();
        let stalled = |n: &NodeId| self.facts.machine(*n).is_some_and(|m| m.stalled);
        let stalls: Vec<String> = self.facts.nodes.iter().filter(stalled).map(|n| n.to_string()).collect();
        let all = [("links cut:", cuts), ("disk stalled: node", stalls)];
        let line = |(what, of): (&str, Vec<String>)| (format!("{what} {}", of.join(" ")), self.palette.bad());
        all.into_iter().filter(|(_, of)| !of.is_empty()).map(line).collect()
    }

    fn log(&self, rows: usize) -> Vec<Line<'static>> {
        let (facts, ui) = (self.facts, self.ui);
        let wanted = |node: NodeId| move |told: &&crate::view::Told| told.about.is_empty() || told.about.contains(node);
        let lines: Vec<_> = match ui.filter {
            Some(node) => facts.log.iter().filter(wanted(node)).collect(),
            None => facts.log.iter().collect(),
        };
        // From the newest on, as far as it can be seen.
        let pieces = lines.iter().rev().flat_map(|told| {
            let style = match () {
                () if told.grave => self.palette.bad(),
                () if told.text.starts_with('>') => Palette::strong(),
                () => Style::new(),
            };
            wrapped(&told.text, self.width, 14).into_iter().rev().map(move |piece| Line::styled(piece, style))
        });
        let mut shown: Vec<_> = pieces.take(rows.saturating_add(ui.scroll)).collect();
        let scroll = ui.scroll.min(shown.len().saturating_sub(rows));
        let of = ui.filter.map_or_else(String::new, |n| format!(" of node {n}"));
        let below = if scroll > 0 { format!(", {scroll} lines below") } else { String::new() };
        let mut out = vec![self.rule(&format!(" log{of}{below} "), 0, "")];
        shown.drain(..scroll);
        out.extend(shown.into_iter().take(rows).rev());
        out.resize(rows + 1, Line::default());
        out
    }

    fn bottom(&self) -> Line<'static> {
        if let Some(line) = &self.ui.line {
            // The end of a long line is what is being typed.
            let hidden = (line.chars().count() + 2).saturating_sub(self.width);
            return Line::raw(format!(":{}", line.chars().skip(hidden).collect::<String>()));
        }
        const KEYS: [(&str, &str); 11] = [
            ("k", "kill"),
            ("p", "pause"),
            ("r", "restart"),
            ("l", "leave"),
            ("c", "cut"),
            ("h", "heal"),
            ("d", "disk"),
            ("f", "log"),
            (":", "type"),
            ("?", "help"),
            ("q", "quit"),
        ];
        let gap = if self.width >= 90 { "  " } else { " " };
        let key = |(key, word): (&'static str, &'static str)| {
            [Span::styled(key, Palette::strong()), Span::styled(format!(" {word}{gap}"), Palette::faint())]
        };
        Line::from(KEYS.into_iter().flat_map(key).collect::<Vec<_>>())
    }

    fn choices(&self, frame: &mut Frame<'_>, area: Rect) {
        let hint = if self.ui.choices.is_empty() {
            "Tab completes, Up brings back, Esc closes, `help` lists".to_owned()
        } else {
            self.ui.choices.join("  ")
        };
        let row = Rect { y: area.height - 2, height: 1, ..area };
        frame.render_widget(Clear, row);
        frame.render_widget(Line::styled(cut(&hint, self.width), Palette::faint()), row);
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let mut lines: Vec<Line<'_>> = VERBS
        .iter()
        .map(|v| {
            let key = Span::styled(format!(" {} ", v.key), Palette::strong());
            Line::from(vec![key, Span::raw(format!(" {:<13} {}", v.form(), v.does()))])
        })
        .collect();
    lines.push(Line::default());
    lines.push(Line::raw(" 0-9 Up Down  select a node (>); the keys above are for it"));
    lines.push(Line::raw(" : or /        type a command; Tab completes it; N may be `master`"));
    lines.push(Line::raw(" PgUp PgDn     older and newer lines of the log; End: the newest"));
    lines.push(Line::raw(" Left Right    other levels, where there is no room for all"));
    lines.push(Line::raw(" * master · b1 2/3: at barrier 1, 2 of 3 have acknowledged"));
    lines.push(Line::raw(" hears: ! suspected · x the link is cut · – not known"));
    let width = 72.min(area.width);
    let height = (lines.len() as u16 + 2).min(area.height);
    let at = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, at);
    let block = Block::new().borders(Borders::ALL).title(" help (any key closes it) ");
    frame.render_widget(Paragraph::new(lines).block(block), at);
}

fn heard_head(peers: &[NodeId]) -> String {
    let columns: String =
        peers.iter().map(|p| format!("{:>width$} ", format!("node {p}"), width = HEARD_WIDTH - 1)).collect();
    format!("     {columns}")
}

/// A state in at most eight characters.
fn whole(state: NodeState) -> &'static str {
    if state == NodeState::ForcedLeaving { "forced" } else { state.name() }
}

fn stepping(step: &Step) -> String {
    let word = match step.transition {
        Some(NodeState::Joining) => "join",
        Some(NodeState::Leaving) => "leave",
        Some(NodeState::ForcedLeaving) => "forced",
        _ => UNKNOWN,
    };
    let all = match step.participants.len() {
        0 => UNKNOWN.to_owned(),
        n => n.to_string(),
    };
    format!("{word} b{} {}/{all}", step.barrier, step.acked.len())
}

/// An age in at most four characters.
fn age(ms: Option<u64>) -> String {
    match ms {
        None => UNKNOWN.to_owned(),
        Some(ms) if ms < 10_000 => ms.to_string(),
        Some(ms) if ms < 1_000_000 => format!("{}s", ms / 1000),
        Some(ms) => format!("{}m", (ms / 60_000).min(999)),
    }
}

/// A rate in at most five characters.
fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => UNKNOWN.to_owned(),
        Some(rate) if rate < 10_000.0 => format!("{rate:.0}"),
        Some(rate) => format!("{:.0}k", (rate / 1000.0).min(9999.0)),
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A line in pieces of at most `width` characters, broken between words; those after the first are indented.
fn wrapped(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut length = 0;
    for word in text.split_inclusive(' ') {
        let needed = word.trim_end().chars().count();
        let fits = length + needed <= width || needed + indent > width;
        for c in word.chars() {
            let begins = !fits && length > indent || length >= width;
            if begins && (length >= width || pieces.last().is_some_and(|p| p.ends_with(' '))) {
                pieces.push(" ".repeat(indent));
                length = indent;
                if c == ' ' {
                    continue;
                }
            }
            if let Some(piece) = pieces.last_mut() {
                piece.push(c);
                length += 1;
            }
        }
    }
    pieces
}

fn padded(text: &str, width: usize) -> String {
    format!("{:<width$}", cut(text, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_never_in_none() {
        assert_eq!(wrapped("   1.5 s  node 2 panicked", 80, 14), ["   1.5 s  node 2 panicked"]);
        assert_eq!(wrapped("aa bb cc dd", 6, 2), ["aa bb ", "  cc ", "  dd"]);
        assert_eq!(wrapped("0123456789", 4, 1), ["0123", " 456", " 789"]);
        for width in 1..30 {
            let pieces = wrapped("12 345 6789 0 12345678901234567890", width, 0);
            assert!(pieces.iter().all(|p| p.chars().count() <= width), "{width} {pieces:?}");
            let whole: String = pieces.concat().split_whitespace().collect();
            assert_eq!(whole, "1234567890 12345678901234567890".replace(' ', ""), "{width}");
        }
    }

    #[test]
    fn figures_have_their_width() {
        let ages = [None, Some(0), Some(9999), Some(10_000), Some(999_999), Some(1_000_000), Some(u64::MAX)].map(age);
        assert_eq!(ages, ["–", "0", "9999", "10s", "999s", "16m", "999m"]);
        assert_eq!(
            [None, Some(0.4), Some(9999.0), Some(1e6), Some(1e12)].map(rate),
            ["–", "0", "9999", "1000k", "9999k"]
        );
    }
}
