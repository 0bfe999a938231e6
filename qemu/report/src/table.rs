//! The page's tables, as HTML that needs no script.

use std::fmt::Write;

use crate::life::LifeEnd;
use crate::page::Escaped;
use crate::read::{Damaged, Trace};
use crate::time::{At, Took};
use crate::timeline::{LevelName, Timeline, Verdict};
use crate::transition::{Stage, Transition, TransitionEnd, Waited};

/// Writes to a text, which cannot fail.
macro_rules! put {
    ($out:expr, $($arguments:tt)*) => {{
        let _ = write!($out, $($arguments)*);
    }};
}

/// A node in its colour.
fn node(n: u8) -> String {
    format!("<b class=\"node n{}\">{n}</b>", n % 8)
}

fn nodes(list: &[u8]) -> String {
    list.iter().map(|n| node(*n)).collect::<Vec<_>>().join(" ")
}

/// A time that shows its place in the chart.
fn link(from_us: u64, to_us: u64, text: &str) -> String {
    format!("<a href=\"#\" data-from=\"{from_us}\" data-to=\"{to_us}\">{text}</a>")
}

/// A few numbers about the whole.
pub(crate) fn facts(trace: &Trace, timeline: &Timeline) -> String {
    let takeovers = timeline.terms.len().saturating_sub(1);
    let faults = timeline.faults.iter().filter(|f| f.kind == "fault").count();
    let panics = timeline.lives.iter().filter(|l| l.end == LifeEnd::Panic).count();
    let span = Took(timeline.to_us.saturating_sub(timeline.from_us)).to_string();
    let facts = [
        ("run", span),
        ("nodes", timeline.nodes.len().to_string()),
        ("transitions", timeline.transitions.len().to_string()),
        ("rounds", timeline.rounds.len().to_string()),
        ("views", timeline.views.to_string()),
        ("takeovers", takeovers.to_string()),
        ("faults injected", faults.to_string()),
        ("panics", panics.to_string()),
        ("events", trace.lines.len().to_string()),
    ];
    let mut out = String::new();
    for (name, value) in facts {
        put!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out
}

/// What did not hold, and what the trace lacks.
pub(crate) fn failures(trace: &Trace, timeline: &Timeline) -> String {
    let mut out = String::new();
    if let Verdict::Failed(what) = &timeline.verdict {
        for what in what {
            put!(out, "<p class=\"failure\">did not hold: <code>{}</code></p>", Escaped(what));
        }
    }
    if let Some(number) = timeline.cut_off {
        put!(out, "<p class=\"failure\">The trace is cut off in line {number}; what came after it is not shown.</p>");
    }
    damaged(&trace.damaged, &mut out);
    out
}

/// How many of the lines that were left out are named one by one.
const DAMAGED_SHOWN: usize = 5;

/// Which lines were left out, and why.
fn damaged(lines: &[Damaged], out: &mut String) {
    let how_many = match lines.len() {
        0 => return,
        1 => "1 line of the trace is".to_owned(),
        n => format!("{n} lines of the trace are"),
    };
    put!(out, "<div class=\"failure\">{how_many} damaged and left out: ");
    out.push_str("what such a line told is not shown, and what it would have answered looks unanswered.<ul>");
    for line in lines.iter().take(DAMAGED_SHOWN) {
        put!(out, "<li>{}</li>", Escaped(&line.to_string()));
    }
    match lines.len().saturating_sub(DAMAGED_SHOWN) {
        0 => {}
        more => put!(out, "<li>and {more} more</li>"),
    }
    out.push_str("</ul></div>");
}

/// Duration of each transition by level, and who was waited for.
pub(crate) fn transitions(timeline: &Timeline) -> String {
    if timeline.transitions.is_empty() {
        return "<p class=\"none\">No node joined or left.</p>".to_owned();
    }
    let mut out =
        String::from("<table class=\"transitions\"><thead><tr><th>transition</th><th>began</th><th>took</th>");
    for level in &timeline.levels {
        put!(out, "<th>{} {}</th>", level.order, Escaped(&level.name));
    }
    out.push_str("<th>because of</th></tr></thead><tbody>");
    for one in &timeline.transitions {
        transition(one, &timeline.levels, &mut out);
    }
    out.push_str("</tbody></table>");
    out
}

fn transition(one: &Transition, levels: &[LevelName], out: &mut String) {
    let took = Took(one.to_us.saturating_sub(one.from_us));
    let end = match one.end {
        TransitionEnd::Through => String::new(),
        TransitionEnd::Overtaken => " <em class=\"late\">overtaken</em>".to_owned(),
        TransitionEnd::Open => " <em class=\"late\">not through</em>".to_owned(),
    };
    put!(
        out,
        "<tr class=\"{}\"><td>{} <span class=\"kind\">{}</span>{}</td><td>{}</td><td class=\"took\">{took}{end}</td>",
        one.kind.replace(|c: char| !c.is_ascii_lowercase(), "-"),
        node(one.subject),
        Escaped(&one.kind),
        if one.whole { "" } else { " <small>at this level</small>" },
        link(one.from_us, one.to_us, &At(one.from_us).to_string()),
    );
    for level in levels {
        match one.stages.iter().find(|s| s.level == level.order) {
            Some(stage) => put!(out, "<td>{}</td>", stage_cell(stage, one.to_us)),
            None => out.push_str("<td class=\"no\">–</td>"),
        }
    }
    put!(out, "<td class=\"cause\">{}</td></tr>", cause(one));
}

fn stage_cell(stage: &Stage, end_us: u64) -> String {
    let took = Took(stage.to_us.unwrap_or(end_us).saturating_sub(stage.from_us)).to_string();
    let mut out = link(stage.from_us, stage.to_us.unwrap_or(end_us), &took);
    if stage.to_us.is_none() {
        out.push_str(" <em class=\"late\">not through</em>");
    }
    if stage.rounds.len() > 1 {
        put!(out, " <small>{} rounds</small>", stage.rounds.len());
    }
    if let Some(waited) = &stage.waited {
        put!(out, "<br>{}", waited_for(waited));
    }
    out
}

fn waited_for(waited: &Waited) -> String {
    let nodes = nodes(&waited.nodes);
    if waited.answered {
        format!("<small>last: {nodes} after {}</small>", Took(waited.us))
    } else {
        format!("<small class=\"late\">no answer: {nodes}</small>")
    }
}

fn cause(one: &Transition) -> String {
    let mut out = String::new();
    if let Some((what, at)) = &one.cause {
        put!(out, "<code>{}</code>", Escaped(what));
        match one.suspected_us {
            Some(suspected) => {
                let after = Took(suspected.saturating_sub(*at));
                let began = Took(one.from_us.saturating_sub(suspected));
                put!(out, " <small>suspected after {after}, put out {began} later</small>");
            }
            None => {
                put!(out, " <small>{} before</small>", Took(one.from_us.saturating_sub(*at)));
            }
        }
    }
    out
}

/// Who was master.
pub(crate) fn terms(timeline: &Timeline) -> String {
    if timeline.terms.is_empty() {
        return "<p class=\"none\">No node was master.</p>".to_owned();
    }
    let mut out = String::from(
        "<table><thead><tr><th>master</th><th>ballot</th><th>from</th><th>for</th><th>until</th><th>without a \
         master before</th></tr></thead><tbody>",
    );
    let mut last: Option<u64> = None;
    for term in &timeline.terms {
        let until = match term.end {
            "open" => "the trace ends",
            "ended" => "its life ended",
            "overtaken" => "another took over",
            other => other,
        };
        let gap = last.map_or_else(|| "–".to_owned(), |last| Took(term.from_us.saturating_sub(last)).to_string());
        let took = Took(term.to_us.saturating_sub(term.from_us));
        let from = link(term.from_us, term.from_us, &At(term.from_us).to_string());
        put!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{from}</td><td>{took}</td><td>{until}</td><td>{gap}</td></tr>",
            node(term.node),
            term.ballot
        );
        last = Some(term.to_us);
    }
    out.push_str("</tbody></table>");
    out
}

/// How lives ended.
pub(crate) fn ends(timeline: &Timeline) -> String {
    let ended: Vec<_> = timeline.lives.iter().filter(|l| l.end != LifeEnd::Alive).collect();
    if ended.is_empty() {
        return "<p class=\"none\">No life ended.</p>".to_owned();
    }
    let mut out = String::from(
        "<table><thead><tr><th>node</th><th>incarnation</th><th>ended</th><th>lived</th><th>how</th><th>why</th></tr>\
         </thead><tbody>",
    );
    for life in ended {
        let how = match life.end {
            LifeEnd::Panic => "panic",
            LifeEnd::Halt => "halt",
            LifeEnd::Killed => "killed",
            LifeEnd::Gone => "gone",
            LifeEnd::Alive => "alive",
        };
        put!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"{how}\">{how}</td><td>{}</td></tr>",
            node(life.node),
            life.inc.map_or_else(|| "–".to_owned(), |i| i.to_string()),
            link(life.to_us, life.to_us, &At(life.to_us).to_string()),
            Took(life.to_us.saturating_sub(life.from_us)),
            Escaped(&life.reason)
        );
    }
    out.push_str("</tbody></table>");
    out
}
