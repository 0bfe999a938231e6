//! The page: one HTML file with everything in it.
//!
//! What comes from a trace is hostile text here: in HTML it is escaped, in the page's data no `<` is left, and the page's own
//! policy forbids it to load anything.

use std::fmt;

use quorate_trace::Line;
use serde_json::{Value, json};

use crate::read::Trace;
use crate::table;
use crate::timeline::{Timeline, Verdict};

const TEMPLATE: &str = include_str!("../page/page.html");
const STYLE: &str = include_str!("../page/page.css");
const SCRIPTS: [&str; 5] = [
    include_str!("../page/scale.js"),
    include_str!("../page/lanes.js"),
    include_str!("../page/list.js"),
    include_str!("../page/chart.js"),
    include_str!("../page/page.js"),
];

/// Text in HTML.
pub(crate) struct Escaped<'t>(pub &'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// JSON in a `script` element: an end tag or a comment in a text must not end the element.
fn in_script(json: &Value) -> String {
    json.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// The trace as a page. `title` is what it is called, mostly its file's name.
pub fn page(trace: &Trace, timeline: &Timeline, title: &str) -> String {
    let mut kinds: Vec<&str> = trace.lines.iter().map(|l| l.ev.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let events: Vec<Value> = trace.lines.iter().map(|line| event(line, &kinds)).collect();
    let data = json!({ "title": title, "kinds": kinds, "events": events, "timeline": timeline });
    let fill = |name: &str| match name {
        "title" => Escaped(title).to_string(),
        "style" => STYLE.to_owned(),
        "verdict" => verdict(timeline),
        "facts" => table::facts(trace, timeline),
        "failures" => table::failures(trace, timeline),
        "transitions" => table::transitions(timeline),
        "terms" => table::terms(timeline),
        "ends" => table::ends(timeline),
        "data" => in_script(&data),
        "script" => SCRIPTS.join("\n"),
        // A name that is not filled shows.
        other => format!("@@{other}@@"),
    };
    // Between two marks stands a name; what is filled in is not looked at again.
    TEMPLATE.split("@@").enumerate().map(|(i, part)| if i % 2 == 1 { fill(part) } else { part.to_owned() }).collect()
}

/// A line as the page's script takes it: time, node, incarnation, Lamport clock, kind, own fields.
fn event(line: &Line, kinds: &[&str]) -> Value {
    let kind = kinds.binary_search(&line.ev.as_str()).unwrap_or(0);
    json!([line.t_us, line.node, line.inc, line.lc, kind, line.fields])
}

fn verdict(timeline: &Timeline) -> String {
    let (class, text) = match &timeline.verdict {
        Verdict::Held => ("held", "every expectation held"),
        Verdict::Failed(_) => ("failed", "failed"),
        Verdict::Unfinished => ("unfinished", "no verdict in the trace"),
    };
    format!("<span class=\"verdict {class}\">{text}</span>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &str) -> String {
        let trace = Trace::parse(lines.as_bytes()).unwrap();
        page(&trace, &Timeline::of(&trace), "a <b> & \"c\"")
    }

    const EVIL: &str = r#"{"t_us":1,"node":0,"inc":1,"nt_us":1,"seq":0,"lc":1,"ev":"panic","reason":"</script><script>alert(1)</script><!-- @@data@@ &"}"#;

    #[test]
    fn what_a_log_line_says_ends_no_element() {
        let page = of(EVIL);
        let scripts = page.matches("<script").count();
        assert_eq!((scripts, page.matches("</script").count()), (2, 2), "the data and the script");
        assert!(page.contains("&lt;/script&gt;&lt;script&gt;alert(1)"), "in the table of ends");
        assert!(page.contains(r"\u003c/script>\u003cscript>alert(1)"), "in the data");
        assert!(!page.contains("<!-- @@"));
        assert!(page.contains("<title>a &lt;b&gt; &amp; &quot;c&quot;"));
    }

    #[test]
    fn lines_that_are_left_out_are_told_near_the_top() {
        let line = EVIL.replace("@@data@@", "");
        assert!(!of(&line).contains("damaged and left out"));
        let one = of(&format!("{line}\n{{\n{line}\n"));
        let told = one.find("1 line of the trace is damaged and left out").unwrap();
        assert!(one.find("</header>").unwrap() < told && told < one.find("<section").unwrap(), "above the lanes");
        assert!(one.contains("<li>line 2 is no trace line: no JSON object: EOF"));
        let evil = "\"</li><script>alert(2)</script>\"\n".repeat(12);
        let many = of(&format!("{line}\n{evil}{line}\n"));
        assert!(many.contains("12 lines of the trace are damaged and left out"));
        assert_eq!(many.matches("<li>line ").count(), 5);
        assert!(many.contains("<li>line 6 ") && many.contains("<li>and 7 more</li>"));
        assert!(many.contains("&lt;/li&gt;&lt;script&gt;alert(2)"), "as text");
        assert_eq!(many.matches("<script").count(), 2, "the data and the script");
    }

    #[test]
    fn the_page_stands_alone() {
        let page = of(&EVIL.replace("@@data@@", ""));
        let start = page.find("<script type=\"application/json\"").unwrap();
        let end = page[start..].find("</script>").unwrap() + start;
        let without_data = format!("{}{}", &page[..start], &page[end..]);
        for foreign in ["http:", "https:", " src=", "@import", "url(", "<link", "fetch(", "XMLHttpRequest"] {
            assert!(!without_data.contains(foreign), "{foreign}");
        }
        assert!(page.contains("default-src 'none'"));
        let marks = ["title", "style", "verdict", "facts", "transitions", "data", "script"];
        assert!(marks.iter().all(|m| !without_data.contains(&format!("@@{m}@@"))));
    }

    #[test]
    fn the_data_is_the_trace() {
        let page = of(EVIL);
        let start = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
        let end = page[start..].find("</script>").unwrap() + start;
        let data: Value = serde_json::from_str(&page[start..end]).unwrap();
        assert_eq!(data["kinds"], json!(["panic"]));
        assert_eq!(data["events"][0][5]["reason"], json!("</script><script>alert(1)</script><!-- @@data@@ &"));
        assert_eq!(data["timeline"]["lives"][0]["end"], json!("panic"));
    }
}
