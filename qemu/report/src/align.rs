//! Lines put where they happened.
//!
//! The harness stamps a line when it receives it. The way there (a serial port, a thread that was not scheduled) takes up to
//! some ms, and differs from line to line, so that an answer may be stamped before its question. Each line has its node's own
//! clock as well. What took the least time on its way, among those received around the same time, tells how far that clock is
//! behind the harness's; by this the others are put back. Never later than they were received, never out of their node's order.
//!
//! A trace that has no such delays, as the simulator's, is left as it is.

use std::collections::{BTreeMap, VecDeque};

use quorate_trace::Line;

/// Lines so close together compare their ways, µs. Longer, and clocks that run apart would count as ways (20 µs at 200 ppm).
const AROUND_US: u64 = 100_000;

/// A life in which no line's way took so much longer than another's is left alone, µs: more than clocks run apart.
const DELAY_MIN_US: i64 = 300;

/// Puts lines back, and in order.
pub(crate) fn align(lines: &mut [Line]) {
    let mut lives: BTreeMap<(u8, Option<u32>), Vec<usize>> = BTreeMap::new();
    for (i, line) in lines.iter().enumerate() {
        if let (Some(node), Some(_)) = (line.node, line.nt_us) {
            lives.entry((node, line.inc)).or_default().push(i);
        }
    }
    for its in lives.values() {
        let points: Vec<(u64, i64)> = its.iter().map(|i| (lines[*i].t_us, behind(&lines[*i]))).collect();
        let least = least_around(&points);
        let delay = |((_, behind), least): (&(u64, i64), &i64)| behind - least;
        if points.iter().zip(&least).map(delay).max().unwrap_or(0) < DELAY_MIN_US {
            continue;
        }
        let mut last = 0;
        for (i, least) in its.iter().zip(least) {
            let line = &mut lines[*i];
            let at = line.nt_us.and_then(|nt| nt.checked_add_signed(least)).unwrap_or(line.t_us);
            last = at.clamp(last, line.t_us.max(last));
            line.t_us = last;
        }
    }
    lines.sort_by_key(|line| line.t_us);
}

/// How far the node's clock is behind the harness's, with the line's way.
fn behind(line: &Line) -> i64 {
    line.t_us as i64 - line.nt_us.unwrap_or(0) as i64
}

/// For each point the least value among those around it. `points` ascend by time.
fn least_around(points: &[(u64, i64)]) -> Vec<i64> {
    // Places of values that can still be the least, ascending in time and in value.
    let mut window: VecDeque<usize> = VecDeque::new();
    let mut next = 0;
    let mut least = Vec::with_capacity(points.len());
    for (t, own) in points {
        while let Some((_, value)) = points.get(next).filter(|(later, _)| *later <= t + AROUND_US) {
            while window.back().is_some_and(|i| points[*i].1 >= *value) {
                window.pop_back();
            }
            window.push_back(next);
            next += 1;
        }
        while window.front().is_some_and(|i| points[*i].0 + AROUND_US < *t) {
            window.pop_front();
        }
        least.push(window.front().map_or(*own, |i| points[*i].1));
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(t_us: u64, node: u8, nt_us: u64, seq: u64) -> Line {
        let text = format!(
            r#"{{"t_us":{t_us},"node":{node},"inc":1,"nt_us":{nt_us},"seq":{seq},"lc":{seq},"ev":"note","what":"x"}}"#
        );
        Line::parse(&text).unwrap()
    }

    fn times(lines: &[Line]) -> Vec<(u64, u64)> {
        lines.iter().map(|l| (l.seq, l.t_us)).collect()
    }

    #[test]
    fn a_line_that_was_long_on_its_way_is_put_back() {
        // Node 0 booted at 1000 by the harness's clock. Its second line took 5 ms longer than the others, node 1's none.
        let mut lines = vec![
            line(2_000, 0, 1_000, 0),
            line(3_200, 1, 3_200, 9),
            line(8_000, 0, 2_000, 1),
            line(8_100, 0, 7_100, 2),
        ];
        align(&mut lines);
        assert_eq!(times(&lines), [(0, 2_000), (1, 3_000), (9, 3_200), (2, 8_100)]);
    }

    #[test]
    fn clocks_that_run_apart_are_no_delay() {
        // 200 ppm slow for a minute.
        let mut lines: Vec<Line> = (0..6_000u64).map(|i| line(i * 10_000, 0, i * 9_998, i)).collect();
        let before = lines.clone();
        align(&mut lines);
        assert_eq!(lines, before);
    }

    #[test]
    fn a_clock_that_stood_still_does_not_put_what_came_after_before_it() {
        let delayed = [line(1_000_000, 0, 1_000_000, 0), line(1_001_000, 0, 1_000_200, 1)];
        // Its clock stood still for three seconds.
        let mut lines: Vec<Line> = delayed.into_iter().chain([line(4_001_200, 0, 1_001_200, 2)]).collect();
        align(&mut lines);
        assert_eq!(times(&lines), [(0, 1_000_000), (1, 1_000_200), (2, 4_001_200)]);
    }

    #[test]
    fn a_nodes_order_is_kept_and_nothing_is_later_than_received() {
        let mut lines: Vec<Line> = (0..500u64)
            .map(|i| line(20_000 + i * 700 + (i * i * 37) % 650, 0, 10_000 + i * 700 - (i * 53) % 600, i))
            .collect();
        lines.sort_by_key(|l| l.seq);
        let received: Vec<u64> = lines.iter().map(|l| l.t_us).collect();
        align(&mut lines);
        assert!(lines.is_sorted_by_key(|l| l.seq) && lines.is_sorted_by_key(|l| l.t_us));
        assert!(lines.iter().zip(received).all(|(l, received)| l.t_us <= received));
    }
}
