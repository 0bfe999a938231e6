//! The result as a table.

use crate::trial::{Outcome, Report, Run};

/// Longer words about what was broken are cut in the table.
const RULE_MAX: usize = 58;

/// The table of all reports, and a last line with the sum.
pub fn render(reports: &[Report]) -> String {
    let rows: Vec<(&Report, String, String)> = reports.iter().map(|r| (r, found_in(r), rule(r))).collect();
    let name = reports.iter().map(|r| r.name.len()).max().unwrap_or(0).max("mutation".len());
    let place = rows.iter().map(|(_, place, _)| place.chars().count()).max().unwrap_or(0).max("found by".len());
    let mut text = format!(
        "{:name$}  {:place$}  {:RULE_MAX$}  {:>6}  {:>8}  {:>7}  {:>6}\n",
        "mutation", "found by", "which broke", "seeds", "directed", "build s", "run s"
    );
    for (r, by, what) in &rows {
        let Report { runs, directed, build_s, run_s, .. } = r;
        text.push_str(&format!(
            "{:name$}  {by:place$}  {what:RULE_MAX$}  {runs:>6}  {directed:>8}  {build_s:>7.1}  {run_s:>6.1}\n",
            r.name
        ));
    }
    let count = |is: fn(&Outcome) -> bool| reports.iter().filter(|r| is(&r.outcome)).count();
    let by = |is: fn(&Run) -> bool| {
        reports.iter().filter(|r| matches!(&r.outcome, Outcome::Caught(catch) if is(&catch.run))).count()
    };
    let ways = [
        (by(|run| matches!(run, Run::Seed { .. })), "by seeds"),
        (by(|run| matches!(run, Run::Plan(_))), "by directed plans alone"),
        (by(|run| matches!(run, Run::Scenario { .. })), "by scenarios alone"),
        (count(|o| matches!(o, Outcome::ByModel(_))), "by the model checker alone"),
    ];
    let found: usize = ways.iter().map(|(n, _)| n).sum();
    let survived = count(|o| matches!(o, Outcome::Survived));
    let wrong = reports.len() - found - survived;
    text.push_str(&format!("{found} of {} mutations found", reports.len()));
    let each: Vec<String> = ways.iter().filter(|(n, _)| *n > 0).map(|(n, how)| format!("{n} {how}")).collect();
    if !each.is_empty() {
        text.push_str(&format!(" ({})", each.join(", ")));
    }
    text.push_str(&format!(", {survived} survived"));
    if wrong > 0 {
        text.push_str(&format!(", {wrong} entries of the list are wrong"));
    }
    text.push('\n');
    text
}

/// What run found it.
fn found_in(report: &Report) -> String {
    match &report.outcome {
        Outcome::Caught(catch) => catch.run.in_words(),
        Outcome::Survived => "SURVIVED".to_owned(),
        Outcome::ByModel(_) => "the model checker".to_owned(),
        Outcome::NoPlace(_) => "NO PLACE".to_owned(),
        Outcome::DoesNotCompile(_) => "DOES NOT COMPILE".to_owned(),
    }
}

/// What was broken in it.
fn rule(report: &Report) -> String {
    match &report.outcome {
        Outcome::Caught(catch) => cut(catch.rule()),
        Outcome::ByModel(invariant) => cut(invariant),
        _ => String::new(),
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= RULE_MAX {
        return text.to_owned();
    }
    text.chars().take(RULE_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{Catch, Run};

    #[test]
    fn the_table_has_a_line_per_mutation_and_a_sum() {
        let report = |name: &str, outcome| Report {
            name: name.into(),
            outcome,
            runs: 7,
            directed: 3,
            build_s: 12.34,
            run_s: 5.6,
        };
        let long = "a node did what no node may ever do, and it said so in very many words indeed";
        let caught = |run, what: &str| Outcome::Caught(Catch { run, what: what.into() });
        let reports = [
            report("skip-the-fence", caught(Run::Seed { seed: 42, nodes: 3 }, "Fence: line 3: without a fence")),
            report("talk", caught(Run::Plan("a-plan".into()), long)),
            report("play", caught(Run::Scenario { name: "power-on-3".into(), seed: 4 }, "not in time")),
            report("nothing", Outcome::Survived),
            report("race", Outcome::ByModel("one history".into())),
            report("typo", Outcome::DoesNotCompile("error".into())),
            report("moved", Outcome::NoPlace("0 times".into())),
        ];
        let text = render(&reports);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 9);
        assert!(lines[0].starts_with("mutation        found by "));
        assert!(lines[1].starts_with("skip-the-fence  seed 42 with 3 nodes         Fence "), "{}", lines[1]);
        assert!(lines[1].ends_with("      7         3     12.3     5.6"), "{:?}", lines[1]);
        assert!(lines[2].contains("  plan a-plan ") && lines[2].contains("…") && !lines[2].contains("indeed"));
        assert!(lines[3].contains("  scenario power-on-3, seed 4  not in time "), "{}", lines[3]);
        assert!(lines[4].contains("SURVIVED"));
        assert!(lines[5].contains("the model checker            one history "), "{}", lines[5]);
        assert!(lines.iter().take(8).all(|l| l.chars().count() == lines[0].chars().count()));
        assert_eq!(
            lines[8],
            "4 of 7 mutations found (1 by seeds, 1 by directed plans alone, 1 by scenarios alone, \
             1 by the model checker alone), 1 survived, 2 entries of the list are wrong"
        );
    }
}
