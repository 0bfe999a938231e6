//! Group services: every node delivers the same, in the same order, without a gap (MISSION F1, virtual synchrony), and each
//! subgroup's data comes once in a merge (MISSION F4).
//!
//! A place in the order is (frame, place in the frame, how many events of that node before it there). Who begins later (a node
//! that joined) begins in the middle; a life that ended may have lost its last lines: between a life's first and last place
//! nothing may be missing.

use std::collections::BTreeMap;

use crate::line::{Life, Ordered};
use crate::map::Map;
use crate::rule::{Findings, Rule};

type Place = (u64, u64, u32);

#[derive(Debug, Default)]
struct Delivered {
    first: Option<Place>,
    last: Place,
    count: u64,
}

/// What is known of the order.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    order: BTreeMap<Place, String>,
    lives: Map<Life, Delivered>,
    /// Messages with group data, by merge and subgroup; those that are counted at this place already.
    data: BTreeMap<(u64, u64), Place>,
    /// Lives whose violations are reported already.
    wrong: Map<Life, bool>,
}

impl Groups {
    /// One event in the order.
    pub(crate) fn on_ordered(&mut self, life: Life, event: &Ordered, out: &mut Findings) {
        let own = self.lives.entry(life).or_default();
        let (order, index, before) = own.last;
        let again = own.first.is_some() && (order, index) == (event.order, event.index);
        let place = (event.order, event.index, if again { before + 1 } else { 0 });
        if own.first.is_some() && place <= own.last {
            return self.report(
                life,
                Rule::GroupOrder,
                format!("{life} goes back from place {order} to {}", event.order),
                out,
            );
        }
        own.first.get_or_insert(place);
        (own.last, own.count) = (place, own.count + 1);
        match self.order.get(&place) {
            Some(known) if *known != event.what => {
                let what = format!("{life} delivered {} at place {order}, others {known}", event.what);
                self.report(life, Rule::GroupOrder, what, out);
            }
            Some(_) => {}
            None => {
                self.order.insert(place, event.what.clone());
            }
        }
        if let Some(key) = event.data
            && *self.data.entry(key).or_insert(place) != place
        {
            let what = format!("the data of subgroup {} twice in merge {}", key.1, key.0);
            self.report(life, Rule::GroupData, what, out);
        }
    }

    fn report(&mut self, life: Life, rule: Rule, what: String, out: &mut Findings) {
        // What follows from one wrong place would hide it.
        if !std::mem::replace(self.wrong.entry(life).or_default(), true) {
            out.add(rule, what);
        }
    }

    /// The trace ends: no life left out what others delivered.
    pub(crate) fn finish(&mut self, out: &mut Findings) {
        for (life, own) in &self.lives {
            let Some(first) = own.first else { continue };
            let between = self.order.range(first..=own.last).count() as u64;
            if between != own.count && !self.wrong.get(life).copied().unwrap_or_default() {
                let what = format!("{life} delivered {} of {between} things from place {} on", own.count, first.0);
                out.add(Rule::GroupGap, what);
            }
        }
    }

    /// How many things were delivered, each counted once.
    pub(crate) fn places(&self) -> u64 {
        self.order.len() as u64
    }
}
