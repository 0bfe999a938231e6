//! What a new master may leave out, and what not.

use crate::breaking::{Break, Case, find, of, remove, set};
use crate::story::{deposed_master, one_level_further, renumber, round_that_nobody_knows};
use quorate_check::Rule;
use serde_json::json;

pub fn cases() -> Vec<Case> {
    let unknown: &[(&str, Rule, Break)] = &[
        ("a survivor knows the round, and it is passed over", Rule::StepTwice, |l| {
            *l = round_that_nobody_knows(&[0, 1]).lines;
        }),
        ("the level is not asked anew", Rule::LevelOrder, |l| {
            l.retain(|l| l["level"] != 70 || l["subject"] != 2 || l["transition"] != "leaving");
            l.retain(|l| l["round"] != "129.5");
            renumber(l);
        }),
        ("its end is not asked for at the end either", Rule::LostTransition, |l| {
            l.retain(|l| l["level"] != 70 || l["subject"] != 2 || l["transition"] != "leaving");
            l.retain(|l| l["round"] != "129.5");
            renumber(l);
        }),
    ];
    let further: &[(&str, Rule, Break)] = &[
        ("without a takeover the next level cannot have heard", Rule::NotCommitted, |l| {
            *l = one_level_further(false).lines;
        }),
        ("and it is not told either", Rule::TooHigh, |l| {
            *l = one_level_further(false).lines;
            l.retain(|l| l["level"] != 70 || l["transition"] != "joining" || l["subject"] != 2);
            l.retain(|l| {
                l["ev"] != "round"
                    || l["level"] != 70
                    || l["transitions"][0]["transition"] != "joining"
                    || l["transitions"][0]["subject"] != 2
            });
            renumber(l);
        }),
        ("a forced leave without the join that it overtakes", Rule::TableOne, |l| {
            remove(l, json!({"ev": "notify", "level": 70, "subject": 2, "transition": "joining"}));
        }),
        ("a level is passed over on the way up", Rule::LevelSkipped, |l| {
            l.retain(|l| l["level"] != 20 || l["subject"] != 0 || l["transition"] != "forced-leaving");
            let dead = json!([{"subject": 0, "subject_inc": 1, "transition": "forced-leaving"}]);
            l.retain(|l| l["ev"] != "round" || l["level"] != 20 || l["transitions"] != dead);
            l.retain(|l| l["ev"] != "state" || l["level"] != 20 || l["subject"] != 0 || l["is"] != "inactive");
            renumber(l);
        }),
    ];
    let deposed: &[(&str, Rule, Break)] =
        &[("a deposed master leaves a level out for itself", Rule::LevelSkipped, |l| {
            let name = json!({"ev": "round", "level": 20, "node": 0});
            let join = find(l, &json!({"ev": "view", "view": 3}));
            let round = (join..l.len()).find(|i| l[*i]["ev"] == name["ev"] && l[*i]["level"] == name["level"]).unwrap();
            let round = l[round]["round"].clone();
            l.retain(|l| l["round"] != round);
            l.retain(|l| l["ev"] != "state" || l["level"] != 20 || l["subject"] != 2);
            renumber(l);
        })];
    let later_life: &[(&str, Rule, Break)] =
        &[("a later life is told of a round of the former one", Rule::UnknownRound, |l| {
            set(l, json!({"ev": "view", "node": 1, "view": 3}), json!({}));
            for line in l.iter_mut().filter(|l| l["ev"] == "view" && l["view"].as_u64() <= Some(4)) {
                line["incs"]["2"] = json!(7);
            }
        })];
    [
        of(|| round_that_nobody_knows(&[0]), unknown),
        of(|| one_level_further(true), further),
        of(deposed_master, deposed),
        of(|| round_that_nobody_knows(&[]), later_life),
    ]
    .into_iter()
    .flatten()
    .collect()
}
