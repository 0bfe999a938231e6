//! Figures beside their targets.

use serde_json::{Value, json};

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// The most it should be.
    AtMost(f64),
    /// The least it should be.
    AtLeast(f64),
}

impl Bound {
    /// Whether a value reaches it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    const fn value(self) -> f64 {
        match self {
            Self::AtMost(value) | Self::AtLeast(value) => value,
        }
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which benchmark.
    pub bench: &'static str,
    /// What was measured.
    pub figure: String,
    /// Its value: the median where there are several samples.
    pub value: f64,
    /// The worst sample, where there are several.
    pub worst: Option<f64>,
    /// Of both.
    pub unit: &'static str,
    /// What it should reach, and in words.
    pub target: Option<(Bound, String)>,
    /// All samples.
    pub samples: Vec<f64>,
}

/// All figures of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
}

/// The middle one; the mean of the middle two.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2, middle.checked_sub(1).and_then(|m| sorted.get(m))) {
        (Some(m), 1, _) => *m,
        (Some(m), _, Some(below)) => (m + below) / 2.0,
        _ => f64::NAN,
    }
}

impl Report {
    /// Adds a figure with several samples, of which the largest is the worst.
    pub fn samples(&mut self, bench: &'static str, figure: &str, unit: &'static str, samples: Vec<f64>) -> &mut Row {
        let worst = samples.iter().copied().max_by(f64::total_cmp);
        self.push(Row { bench, figure: figure.into(), value: median(&samples), worst, unit, target: None, samples })
    }

    /// Adds a single figure.
    pub fn single(&mut self, bench: &'static str, figure: &str, unit: &'static str, value: f64) -> &mut Row {
        self.push(Row { bench, figure: figure.into(), value, worst: None, unit, target: None, samples: vec![value] })
    }

    fn push(&mut self, row: Row) -> &mut Row {
        let at = self.rows.len();
        self.rows.push(row);
        // Just pushed, so it is there.
        &mut self.rows[at]
    }

    /// As a table for people.
    pub fn table(&self) -> String {
        let mut cells = vec![["bench", "figure", "median", "worst", "unit", "target", ""].map(str::to_owned)];
        for row in &self.rows {
            let verdict = match &row.target {
                Some((bound, _)) if bound.holds(row.value) => "reached",
                Some(_) => "MISSED",
                None => "",
            };
            cells.push([
                row.bench.to_owned(),
                row.figure.clone(),
                number(row.value),
                row.worst.map(number).unwrap_or_default(),
                row.unit.to_owned(),
                row.target.as_ref().map(|(_, words)| words.clone()).unwrap_or_default(),
                verdict.to_owned(),
            ]);
        }
        let widths: Vec<usize> = (0..7)
            .map(|c| cells.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0))
            .collect();
        let line = |row: &[String; 7]| {
            let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:w$}")).collect();
            format!("{}\n", padded.join("  ").trim_end())
        };
        cells.iter().map(line).collect()
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let row = |r: &Row| {
            json!({"bench": r.bench, "figure": r.figure, "median": r.value, "worst": r.worst, "unit": r.unit,
                "target": r.target.as_ref().map(|(bound, _)| bound.value()), "samples": r.samples,
                "reached": r.target.as_ref().map(|(bound, _)| bound.holds(r.value))})
        };
        json!({ "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

impl Row {
    /// Sets the most that it should be.
    pub fn at_most(&mut self, most: f64, words: impl Into<String>) {
        self.target = Some((Bound::AtMost(most), words.into()));
    }

    /// Sets the least that it should be.
    pub fn at_least(&mut self, least: f64, words: impl Into<String>) {
        self.target = Some((Bound::AtLeast(least), words.into()));
    }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "-".to_owned()
    } else if value.fract() == 0.0 && value.abs() >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_target_stands_beside_its_figure() {
        let mut report = Report::default();
        report.samples("failover", "kill", "s", vec![1.0, 2.0, 1.2]).at_most(1.5, "<= 1.5");
        report.single("idle", "cpu", "%", 2.0).at_most(1.0, "<= 1");
        let table = report.table();
        assert!(table.contains("failover  kill    1.200   2.000  s     <= 1.5  reached"), "{table}");
        assert!(table.contains("MISSED"), "{table}");
        let json = report.json();
        assert_eq!(json["rows"][0]["reached"], true);
        assert_eq!(json["rows"][0]["worst"], 2.0);
        assert_eq!(json["rows"][1]["reached"], false);
        let row = report.single("sim", "speed", "x", 900.0);
        row.at_least(1000.0, ">= 1000");
        assert_eq!(report.json()["rows"][2]["reached"], false);
        assert_eq!(report.json()["rows"][2]["target"], 1000.0);
    }
}
