//! What a scenario makes of single disk requests: errors, half writes, lost ones, and bytes that come from, or go to,
//! another place.
//!
//! A rule is about reads or writes, mostly of a part of the image (an *extent*), and holds for the next so many requests
//! that touch it, or for all. Later rules are asked after earlier ones; the first that ends a request decides.

use std::ops::Range;

/// Which requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskOperation {
    /// Reads.
    Read,
    /// Writes.
    Write,
}

/// Bytes of the image.
pub type Extent = Range<u64>;

/// What happens to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trick {
    /// It fails as a whole, and nothing is written.
    Fail,
    /// A write stops after so many bytes, half way if none are given, and the machine dies.
    Tear(Option<u32>),
    /// A write is answered as done, and is not.
    Lose,
    /// The extent's bytes come from there, or go there, instead.
    Redirect(u64),
    /// The extent's bytes are these, whatever stands there.
    Old(Vec<u8>),
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskRule {
    /// Which requests.
    pub operation: DiskOperation,
    /// What they touch; `None`: anything.
    pub extent: Option<Extent>,
    /// How many; `None`: all.
    pub count: Option<u32>,
    /// What happens.
    pub trick: Trick,
}

/// What to do with a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is carried out. Parts of what a read gives are overlaid, in this order.
    Do(Vec<Overlay>),
    /// A write is carried out elsewhere.
    DoAt(u64),
    Fail,
    Tear(Option<u32>),
    Lose,
}

/// Bytes that a read gives in the place of those that stand there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Overlay {
    pub extent: Extent,
    pub with: With,
}

/// What they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum With {
    From(u64),
    Old(Vec<u8>),
}

/// All rules of one disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rules(Vec<DiskRule>);

impl Rules {
    /// One more. One without an extent takes the place of its like, so that a later count is not added to an earlier one.
    pub fn add(&mut self, rule: DiskRule) {
        if rule.extent.is_none() {
            self.0.retain(|known| {
                (known.operation, &known.extent, &known.trick) != (rule.operation, &rule.extent, &rule.trick)
            });
        }
        self.0.push(rule);
    }

    /// What becomes of a request.
    pub fn judge(&mut self, operation: DiskOperation, request: &Extent) -> Verdict {
        let mut overlays = Vec::new();
        let mut verdict = None;
        for rule in &mut self.0 {
            let touches = rule.extent.as_ref().is_none_or(|e| e.start < request.end && request.start < e.end);
            if rule.operation != operation || !touches || rule.count == Some(0) || verdict.is_some() {
                continue;
            }
            rule.count = rule.count.map(|left| left - 1);
            let extent = rule.extent.clone().unwrap_or(0..u64::MAX);
            match (&rule.trick, operation) {
                (Trick::Fail, _) => verdict = Some(Verdict::Fail),
                (Trick::Tear(bytes), DiskOperation::Write) => verdict = Some(Verdict::Tear(*bytes)),
                (Trick::Lose, DiskOperation::Write) => verdict = Some(Verdict::Lose),
                (Trick::Redirect(to), DiskOperation::Write) => {
                    let at = to.saturating_add(request.start.saturating_sub(extent.start));
                    verdict = Some(Verdict::DoAt(at));
                }
                (Trick::Redirect(from), DiskOperation::Read) => {
                    overlays.push(Overlay { extent, with: With::From(*from) });
                }
                (Trick::Old(bytes), DiskOperation::Read) => {
                    overlays.push(Overlay { extent, with: With::Old(bytes.clone()) });
                }
                // A read has nothing to tear or to lose, old bytes are nothing to a write.
                _ => {}
            }
        }
        self.0.retain(|rule| rule.count != Some(0));
        verdict.unwrap_or(Verdict::Do(overlays))
    }
}

impl Overlay {
    /// Where in a request's bytes the overlay begins, where in the overlay's own bytes, and for how long.
    pub fn meet(&self, request: &Extent) -> Option<(usize, u64, usize)> {
        let (start, end) = (self.extent.start.max(request.start), self.extent.end.min(request.end));
        let length = usize::try_from(end.checked_sub(start)?).ok().filter(|n| *n > 0)?;
        let at = usize::try_from(start.checked_sub(request.start)?).ok()?;
        Some((at, start.checked_sub(self.extent.start)?, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DiskOperation::{Read, Write};

    fn rule(operation: DiskOperation, extent: Option<Extent>, count: Option<u32>, trick: Trick) -> DiskRule {
        DiskRule { operation, extent, count, trick }
    }

    #[test]
    fn a_rule_counts_the_requests_that_touch_its_extent() {
        let mut rules = Rules::default();
        rules.add(rule(Read, Some(512..1024), Some(2), Trick::Fail));
        let whole = Verdict::Do(vec![]);
        assert_eq!(rules.judge(Write, &(0..2048)), whole);
        assert_eq!(rules.judge(Read, &(0..512)), whole);
        assert_eq!(rules.judge(Read, &(1024..2048)), whole);
        assert_eq!(rules.judge(Read, &(0..513)), Verdict::Fail);
        assert_eq!(rules.judge(Read, &(1023..1024)), Verdict::Fail);
        assert_eq!(rules.judge(Read, &(0..2048)), whole);
    }

    #[test]
    fn one_without_an_extent_takes_the_place_of_its_like() {
        let mut rules = Rules::default();
        rules.add(rule(Write, None, Some(5), Trick::Fail));
        rules.add(rule(Write, None, Some(1), Trick::Fail));
        assert_eq!(rules.judge(Write, &(0..1)), Verdict::Fail);
        assert_eq!(rules.judge(Write, &(0..1)), Verdict::Do(vec![]));
        rules.add(rule(Write, None, None, Trick::Lose));
        assert!((0..9).all(|_| rules.judge(Write, &(0..1)) == Verdict::Lose));
    }

    #[test]
    fn writes_go_elsewhere_and_reads_are_overlaid_in_part() {
        let mut rules = Rules::default();
        rules.add(rule(Write, Some(4096..8192), None, Trick::Redirect(12_288)));
        assert_eq!(rules.judge(Write, &(4096..4608)), Verdict::DoAt(12_288));
        rules.add(rule(Read, Some(4096..8192), None, Trick::Redirect(0)));
        let Verdict::Do(overlays) = rules.judge(Read, &(0..36_864)) else { panic!() };
        assert_eq!(overlays[0].meet(&(0..36_864)), Some((4096, 0, 4096)));
        assert_eq!(overlays[0].meet(&(5000..6000)), Some((0, 904, 1000)));
        assert_eq!(overlays[0].meet(&(0..4096)), None);
        assert_eq!(overlays[0].meet(&(8192..9000)), None);
    }
}
