//! Views, the master lock, what a node says of itself.

use crate::breaking::{Break, Case, copy, exact, find, of, remove, set};
use crate::story::whole_life;
use quorate_check::Rule;
use serde_json::json;

pub fn cases() -> Vec<Case> {
    let cases: &[(&str, Rule, Break)] = &[
        ("two contents", Rule::OneHistory, |l| {
            let states = json!({"0": "joined", "1": "joined", "2": "joining"});
            set(l, json!({"ev": "view", "view": 4, "node": 2}), json!({"states": states}));
        }),
        ("a gap", Rule::ViewGap, |l| remove(l, json!({"ev": "view", "view": 4}))),
        ("an older view", Rule::ViewOrder, |l| copy(l, json!({"ev": "view", "view": 3, "node": 1}), json!({}), 60)),
        ("a late old ballot", Rule::ViewBallot, |l| {
            set(l, json!({"ev": "view", "view": 11, "node": 2}), json!({"ballot": 64}));
        }),
        ("joined to inactive", Rule::ViewChange, |l| {
            for line in l.iter_mut().filter(|l| l["ev"] == "view" && l["view"] == 5) {
                line["states"]["2"] = json!("inactive");
            }
        }),
        ("the new incarnation joins over the old one", Rule::NewIncarnation, |l| {
            for line in l.iter_mut().filter(|l| l["ev"] == "view" && l["view"] == 11) {
                line["states"]["0"] = json!("joining");
                line["incs"]["0"] = json!(2);
            }
        }),
        ("an incarnation joins again", Rule::NewIncarnation, |l| {
            for line in l.iter_mut().filter(|l| l["ev"] == "view" && l["view"].as_u64() >= Some(7)) {
                line["incs"]["2"] = json!(1);
            }
        }),
        ("two masters of one ballot", Rule::OneMaster, |l| {
            set(l, json!({"ev": "lock", "phase": "acquired", "node": 1}), json!({"ballot": 64}));
        }),
        ("an old ballot is acquired", Rule::BallotGrows, |l| {
            set(l, json!({"ev": "lock", "phase": "acquired", "node": 1}), json!({"ballot": 63}));
        }),
        ("a round by another", Rule::NotMaster, |l| {
            remove(l, json!({"ev": "lock", "phase": "acquired", "node": 1}));
        }),
        ("a frozen master goes on", Rule::NotMaster, |l| {
            let what = json!({"ev": "freeze", "why": "lease"});
            copy(l, json!({"ev": "lock", "phase": "acquired", "node": 1}), what, 0);
        }),
        ("frozen twice", Rule::FreezeThaw, |l| {
            copy(l, json!({"node": 2, "inc": 1}), json!({"ev": "freeze", "why": "lease"}), 4);
            copy(l, json!({"node": 2, "ev": "freeze"}), json!({}), 2);
        }),
        ("suspected twice", Rule::SuspectTrust, |l| copy(l, json!({"ev": "suspect"}), json!({}), 1)),
    ];
    let more: &[(&str, Rule, Break)] = &[
        ("thawed, but not frozen", Rule::FreezeThaw, |l| {
            copy(l, json!({"node": 2, "inc": 1}), json!({"ev": "thaw", "why": "beat"}), 4);
        }),
        ("an old master is obeyed", Rule::OldMaster, |l| {
            // The new one does not issue the round again, and yet its next acknowledgement is asked for.
            remove(l, json!({"ev": "round", "node": 1, "round": "64.9"}));
            let step = json!({"ev": "notify", "node": 2, "round": "64.9"});
            let view = l.iter().position(|l| l["ev"] == "view" && l["node"] == 2 && l["ballot"] == 129).unwrap();
            let (at, lc) = (find(l, &step), l[view]["lc"].clone());
            let mut late = l.remove(at);
            for (field, add) in [("lc", 1), ("nt_us", 0), ("t_us", 0)] {
                late[field] = json!(l[view - 1][field].as_u64().unwrap() + add);
            }
            for line in l.iter_mut().filter(|l| l["lc"].as_u64() > lc.as_u64()) {
                line["lc"] = json!(line["lc"].as_u64().unwrap() + 10);
            }
            l.insert(view, late);
            crate::story::renumber(l);
        }),
        ("one that is put out acquires the lock", Rule::Excluded, |l| {
            let states = json!({"0": "joined", "1": "joined", "2": "forced-leaving"});
            let view = json!({"ev": "view", "node": 2, "inc": 1, "view": 3});
            set(l, view.clone(), json!({"states": states}));
            copy(l, view, json!({"ev": "lock", "phase": "acquired", "ballot": 130}), 0);
            let at = find(l, &json!({"ev": "lock", "node": 2, "phase": "acquired"}));
            let line = l[at].clone();
            l.retain(|other| other["node"] != 2 || other["inc"] != 1 || other["seq"].as_u64() <= line["seq"].as_u64());
        }),
        ("one that is put out goes on", Rule::Excluded, |l| {
            let states = json!({"0": "joined", "1": "joined", "2": "forced-leaving"});
            set(l, json!({"ev": "view", "node": 2, "inc": 1, "view": 3}), json!({"states": states}));
        }),
        ("a refusal without a reason", Rule::Form, |l| {
            copy(
                l,
                json!({"ev": "view", "node": 0}),
                json!({"ev": "refuse", "peer": 1, "peer_inc": 1, "reason": ""}),
                1,
            );
        }),
        ("a refusal by another", Rule::NotMaster, |l| {
            copy(
                l,
                json!({"ev": "view", "node": 2}),
                json!({"ev": "refuse", "peer": 1, "peer_inc": 1, "reason": "x"}),
                1,
            );
        }),
    ];
    let booted: &[(&str, Rule, Break)] = &[("one that never booted joins", Rule::NewIncarnation, |l| {
        for line in l.iter_mut().filter(|l| l["ev"] == "view" && l["view"] == 3) {
            line["incs"]["2"] = json!(9);
        }
    })];
    [of(whole_life, cases), of(whole_life, more), exact(whole_life, booted)].into_iter().flatten().collect()
}
