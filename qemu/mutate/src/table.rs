//! The result as a table.

use crate::trial::{Outcome, Report};

/// Longer words about a finding are cut in the table.
const FOUND_BY_MAX: usize = 58;

/// The table of all reports, and a last line with the sum.
pub fn render(reports: &[Report]) -> String {
    let name = reports.iter().map(|r| r.name.len()).max().unwrap_or(0).max("mutation".len());
    let mut text = format!(
        "{:name$}  {:FOUND_BY_MAX$}  {:>5}  {:>6}  {:>6}  {:>7}  {:>6}\n",
        "mutation", "found by", "nodes", "seed", "runs", "build s", "run s"
    );
    for r in reports {
        let (by, at) = match &r.outcome {
            Outcome::Caught(catch) => (cut(catch.rule()), Some(catch.run)),
            Outcome::Survived => ("SURVIVED".to_owned(), None),
            Outcome::ByModel(invariant) => (cut(&format!("the model checker: {invariant}")), None),
            Outcome::NoPlace(_) => ("NO PLACE".to_owned(), None),
            Outcome::DoesNotCompile(_) => ("DOES NOT COMPILE".to_owned(), None),
        };
        let (nodes, seed) = at.map_or_else(Default::default, |run| (run.nodes.to_string(), run.seed.to_string()));
        let (runs, build_s, run_s) = (r.runs, r.build_s, r.run_s);
        text.push_str(&format!(
            "{:name$}  {by:FOUND_BY_MAX$}  {nodes:>5}  {seed:>6}  {runs:>6}  {build_s:>7.1}  {run_s:>6.1}\n",
            r.name
        ));
    }
    let count = |is: fn(&Outcome) -> bool| reports.iter().filter(|r| is(&r.outcome)).count();
    let caught = count(|o| matches!(o, Outcome::Caught(_)));
    let modelled = count(|o| matches!(o, Outcome::ByModel(_)));
    let survived = count(|o| matches!(o, Outcome::Survived));
    let wrong = reports.len() - caught - modelled - survived;
    text.push_str(&format!("{caught} of {} mutations found", reports.len()));
    if modelled > 0 {
        text.push_str(&format!(", {modelled} by the model checker alone"));
    }
    text.push_str(&format!(", {survived} survived"));
    if wrong > 0 {
        text.push_str(&format!(", {wrong} entries of the list are wrong"));
    }
    text.push('\n');
    text
}

fn cut(text: &str) -> String {
    if text.chars().count() <= FOUND_BY_MAX {
        return text.to_owned();
    }
    text.chars().take(FOUND_BY_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{Catch, Run};

    #[test]
    fn the_table_has_a_line_per_mutation_and_a_sum() {
        let report = |name: &str, outcome| Report { name: name.into(), outcome, runs: 7, build_s: 12.34, run_s: 5.6 };
        let long = "a node did what no node may ever do, and it said so in very many words indeed";
        let caught = |what: &str| Outcome::Caught(Catch { run: Run { seed: 42, nodes: 3 }, what: what.into() });
        let reports = [
            report("skip-the-fence", caught("Fence: line 3: without a fence")),
            report("talk", caught(long)),
            report("nothing", Outcome::Survived),
            report("race", Outcome::ByModel("one history".into())),
            report("typo", Outcome::DoesNotCompile("error".into())),
            report("moved", Outcome::NoPlace("0 times".into())),
        ];
        let text = render(&reports);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 8);
        assert!(lines[0].starts_with("mutation        found by "));
        assert!(lines[1].starts_with("skip-the-fence  Fence "), "{}", lines[1]);
        assert!(lines[1].ends_with("      3      42       7     12.3     5.6"), "{:?}", lines[1]);
        assert!(lines[2].contains("…") && !lines[2].contains("indeed"));
        assert!(lines[3].contains("SURVIVED"));
        assert!(lines[4].contains("the model checker: one history"));
        assert!(lines.iter().take(7).all(|l| l.chars().count() == lines[0].chars().count()));
        assert_eq!(
            lines[7],
            "2 of 6 mutations found, 1 by the model checker alone, 1 survived, 2 entries of the list are wrong"
        );
    }
}
