//! Every step of every node as its last one, in scripted runs of two and three nodes; and pairs of crashes, of which a
//! part is tried here and all by `cargo cluster sim --crash-points --pairs-every 1`.

use quorate_sim::crash::{Point, Script, points, run_points};

fn hold(list: &[Point]) {
    let failed = run_points(list, 2, &|_| {});
    let shown: Vec<String> = failed
        .iter()
        .take(3)
        .map(|(i, broken)| format!("point {i}: {}\n  at {} us: {}", list[*i], broken.at_us, broken.what))
        .collect();
    assert!(failed.is_empty(), "{} of {} points failed\n{}", failed.len(), list.len(), shown.join("\n"));
}

fn all_points(nodes: u8, pairs: bool) -> Vec<Point> {
    let of =
        |script| points(script, nodes, pairs).unwrap_or_else(|broken| panic!("{}: {broken}", Script::name(script)));
    Script::ALL.into_iter().flat_map(of).collect()
}

#[test]
fn each_step_of_two_nodes_may_be_the_last() {
    let list = all_points(2, false);
    println!("{} points", list.len());
    assert!(list.len() >= 500, "{} points", list.len());
    hold(&list);
}

#[test]
fn each_step_of_three_nodes_may_be_the_last() {
    let list = all_points(3, false);
    println!("{} points", list.len());
    assert!(list.len() >= 1000, "{} points", list.len());
    hold(&list);
}

#[test]
fn a_second_crash_may_come_while_the_first_is_dealt_with() {
    let list = all_points(3, true);
    println!("{} pairs", list.len());
    let part: Vec<Point> = list.into_iter().step_by(41).collect();
    hold(&part);
}
