//! Fences, leases, writes.

use crate::breaking::{Break, Case, copy, exact, find, of, remove, set};
use crate::story::{service_of_a_dead_node, whole_life};
use quorate_check::Rule;
use serde_json::json;

pub fn cases() -> Vec<Case> {
    let cases: &[(&str, Rule, Break)] = &[
        ("no fence", Rule::Fence, |l| remove(l, json!({"ev": "fence"}))),
        ("a fence that does not hold", Rule::Fence, |l| set(l, json!({"ev": "fence"}), json!({"ok": false}))),
        ("a write after the lease", Rule::Lease, |l| {
            let lease = json!({"ev": "lease", "issued_nt_us": 10, "until_nt_us": 20});
            copy(l, json!({"node": 2, "inc": 1}), lease, 4);
            let write = json!({"ev": "shared_write", "region": "ballot.2", "lba": 1, "blocks": 1,
                "issued_nt_us": 1_000_000_000});
            copy(l, json!({"node": 2, "ev": "lease"}), write, 1);
        }),
        ("a write by one that knows", Rule::WriteAfterFence, |l| {
            let write = json!({"ev": "shared_write", "region": "ballot.0", "lba": 1, "blocks": 1,
                "issued_nt_us": 1_000_000_000});
            set(
                l,
                json!({"ev": "view", "node": 0, "view": 9}),
                json!({"states":
                {"0": "forced-leaving", "1": "joined", "2": "leaving"}}),
            );
            copy(l, json!({"node": 0, "ev": "view", "view": 9}), write, 1);
        }),
    ];
    let more: &[(&str, Rule, Break)] = &[
        ("a fence that was not begun", Rule::Fence, |l| remove(l, json!({"ev": "fence_begin"}))),
        ("a fence by another", Rule::NotMaster, |l| {
            let fence = l[find(l, &json!({"ev": "fence_begin"}))].clone();
            let fields = ["ev", "peer", "peer_inc", "method", "ok"];
            let fence = fields.iter().map(|f| (f.to_string(), fence[f].clone())).collect();
            copy(l, json!({"ev": "view", "node": 2, "view": 9}), serde_json::Value::Object(fence), 3);
        }),
        ("a fence of a member", Rule::Fence, |l| {
            for ev in ["fence_begin", "fence"] {
                set(l, json!({"ev": ev}), json!({"peer": 2, "peer_inc": 2}));
            }
        }),
    ];
    let services: &[(&str, Rule, Break)] = &[
        ("fenced while the lease runs", Rule::FenceEarly, |l| {
            let until = l[find(l, &json!({"ev": "lease"}))]["until_nt_us"].as_u64().unwrap();
            set(l, json!({"ev": "lease"}), json!({"until_nt_us": until + 100_000}));
        }),
        ("services hear of it while the lease runs", Rule::ServicesEarly, |l| {
            let until = l[find(l, &json!({"ev": "lease"}))]["until_nt_us"].as_u64().unwrap();
            set(l, json!({"ev": "lease"}), json!({"until_nt_us": until + 100_000}));
            for ev in ["fence_begin", "fence"] {
                set(l, json!({"ev": ev}), json!({"method": "reservation"}));
            }
        }),
        ("a write between two leases", Rule::Lease, |l| {
            let write = find(l, &json!({"ev": "shared_write", "region": "ballot.1"}));
            let issued = l[write]["issued_nt_us"].as_u64().unwrap();
            set(l, json!({"ev": "lease"}), json!({"until_nt_us": issued - 1}));
            let again = json!({"issued_nt_us": issued + 1, "until_nt_us": issued + 400});
            copy(l, json!({"ev": "lease"}), again, 0);
            l[write + 1]["issued_nt_us"] = json!(issued);
            let (at, nt_us) = (write, issued + 1);
            l[at]["nt_us"] = json!(nt_us);
            l[at + 1]["nt_us"] = json!(nt_us);
        }),
        ("a lease from when nothing was written", Rule::LeaseStart, |l| {
            let issued = l[find(l, &json!({"ev": "lease"}))]["issued_nt_us"].as_u64().unwrap();
            set(l, json!({"ev": "lease"}), json!({"issued_nt_us": issued + 1}));
        }),
        ("a lease from the write of another block", Rule::LeaseStart, |l| {
            set(l, json!({"ev": "shared_write", "region": "heartbeat.1"}), json!({"region": "ballot.1"}));
        }),
        ("a write while frozen", Rule::Lease, |l| {
            let at = find(l, &json!({"ev": "lease"}));
            let frozen = json!({"ev": "freeze", "why": "lease"});
            copy(l, json!({"ev": "lease"}), frozen, 0);
            let nt_us = l[at]["nt_us"].as_u64().unwrap();
            let write = find(l, &json!({"ev": "shared_write", "region": "ballot.1"}));
            l[write]["issued_nt_us"] = json!(nt_us + 1);
        }),
    ];
    let shut_out: &[(&str, Rule, Break)] = &[
        ("a heartbeat of one that the reservation shut out", Rule::WriteAfterFence, |l| {
            let fence = find(l, &json!({"ev": "fence"}));
            let (peer, inc) = (l[fence]["peer"].clone(), l[fence]["peer_inc"].clone());
            let at_us = l[fence]["t_us"].as_u64().unwrap();
            for ev in ["fence_begin", "fence"] {
                set(l, json!({"ev": ev}), json!({"method": "reservation"}));
            }
            // Issued by its clock long after the fence, however that is carried over.
            let write = json!({"ev": "shared_write", "region": format!("heartbeat.{peer}"), "lba": 1, "blocks": 1,
                "issued_nt_us": at_us + 1_000_000});
            let boot = find(l, &json!({"node": peer, "inc": inc, "ev": "boot"}));
            copy(l, json!({"node": peer, "inc": inc, "seq": l[boot]["seq"]}), write, usize::MAX);
        }),
        ("a heartbeat in doubt", Rule::Doubt, |l| {
            let doubt = json!({"ev": "reservation", "phase": "doubt", "kind": "write-exclusive-all-registrants"});
            copy(l, json!({"node": 2, "ev": "boot"}), doubt, 1);
            let nt_us = l[find(l, &json!({"ev": "reservation"}))]["nt_us"].as_u64().unwrap();
            let write = json!({"ev": "shared_write", "region": "heartbeat.2", "lba": 1, "blocks": 1,
                "issued_nt_us": nt_us + 1});
            copy(l, json!({"node": 2, "ev": "boot"}), write, 2);
        }),
    ];
    [of(whole_life, cases), of(whole_life, more), of(whole_life, shut_out), exact(service_of_a_dead_node, services)]
        .into_iter()
        .flatten()
        .collect()
}
