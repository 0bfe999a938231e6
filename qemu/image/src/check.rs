//! Verifies an image: every damaged record by name, place and remedy; on request puts right what can be put right.

use std::fmt;
use std::path::Path;

use quorate_base::capacity::{RECORD_BYTES, RECORD_PITCH};
use quorate_database::gpt::GptError;
use quorate_database::{BallotBlock, Block, FindError, NodeConfig, Superblock, SuperblockError, find_node, layout};

use crate::active::committed;
use crate::disk::{Image, Side};
use crate::error::ImageError;
use crate::repair;
use crate::snapshot::{NodeRecords, Snapshot, superblocks};

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The cluster runs, with less in reserve.
    Warning,
    /// A node, or all of them, will not run.
    Error,
}

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which record or part: `superblock copy 1`, `heartbeat.3`, `gpt backup`, …
    pub what: String,
    /// First byte in the file, and how many.
    pub place: Option<(u64, u64)>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub advice: String,
    /// What the repair did about it.
    pub repaired: Option<String>,
}

impl Finding {
    pub(crate) fn new(severity: Severity, what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            severity,
            what: what.into(),
            place: None,
            problem: problem.into(),
            advice: "with all nodes stopped: cargo cluster db check IMAGE --repair".to_owned(),
            repaired: None,
        }
    }

    pub(crate) fn at(mut self, first_byte: u64, bytes: u64) -> Self {
        self.place = Some((first_byte, bytes));
        self
    }

    pub(crate) fn record(self, image: &Image, record: u64) -> Self {
        self.at(image.offset(record), RECORD_BYTES as u64)
    }

    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    pub(crate) fn repaired(&mut self, what: impl Into<String>) {
        self.repaired = Some(what.into());
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{word}: {}: {}", self.what, self.problem)?;
        if let Some((first, bytes)) = self.place {
            write!(f, "\n  at bytes {first}..{}", first + bytes)?;
        }
        match &self.repaired {
            Some(what) => write!(f, "\n  repaired: {what}"),
            None => write!(f, "\n  help: {}", self.advice),
        }
    }
}

/// Verifies an image; with `repair` puts right what can be put right. Repair only while no node runs.
///
/// # Errors
/// If the file cannot be read or written. What is wrong inside it is found, not failed on.
pub fn check(path: &Path, repair: bool) -> Result<Vec<Finding>, ImageError> {
    let mut image = match Image::open(path, repair) {
        Ok(image) => image,
        Err(e @ (ImageError::Io { .. } | ImageError::Exists(_))) => return Err(e),
        Err(e) => return Ok(vec![no_database(&e)]),
    };
    let mut findings = check_table(&mut image, repair)?;
    let copies = superblocks(&image)?;
    let newest = match Superblock::newest([&copies[0], &copies[1]]) {
        Ok(newest) => newest.clone(),
        Err(e) => {
            findings.push(no_superblock(&image, &e));
            return Ok(findings);
        }
    };
    findings.extend(check_superblocks(&image, &copies, &newest, repair)?);
    let snapshot = Snapshot::read(&image)?;
    findings.extend(check_configs(&image, &snapshot, repair)?);
    for node in &snapshot.nodes {
        findings.extend(check_identity(&image, &snapshot, node, repair)?);
        findings.extend(check_state(&image, &snapshot, node, repair)?);
    }
    findings.extend(check_history(&image, &snapshot, repair)?);
    if repair {
        image.sync()?;
    }
    Ok(findings)
}

fn no_database(error: &ImageError) -> Finding {
    let advice = match error {
        ImageError::Truncated { .. } => "copy the image again from where it came: what is cut off is lost",
        ImageError::NoDatabase(GptError::TwoDatabases) => "remove one of the two partitions",
        _ => "give the path of an image that `cargo cluster db create` made",
    };
    Finding::new(Severity::Error, "image", error.to_string()).advice(advice)
}

fn no_superblock(image: &Image, error: &SuperblockError) -> Finding {
    let advice = match error {
        SuperblockError::Version(_) => "use the version of this program that made it",
        _ => "nothing is left to restore it from: copy the image from a backup or create it anew",
    };
    Finding::new(Severity::Error, "superblock", error.to_string())
        .at(image.offset(layout::superblock(0)), 2 * RECORD_PITCH)
        .advice(advice)
}

fn check_table(image: &mut Image, repair: bool) -> Result<Vec<Finding>, ImageError> {
    let mut findings = Vec::new();
    let size = u64::from(image.table.block.bytes());
    let copies = [(Side::Primary, &image.table.primary), (Side::Backup, &image.table.backup)];
    let sound = copies.iter().find_map(|(_, copy)| copy.as_ref().ok()).cloned();
    let bad: Vec<(Side, GptError)> =
        copies.iter().filter_map(|(side, copy)| Some((*side, *copy.as_ref().err()?))).collect();
    for (side, error) in bad {
        let Some(sound) = &sound else { continue };
        let at = sound.header.other.saturating_mul(size);
        let what = match side {
            Side::Primary => "gpt primary",
            Side::Backup => "gpt backup",
        };
        let cut = at.saturating_add(size) > image.bytes;
        let mut finding = if cut {
            Finding::new(
                Severity::Error,
                "image",
                format!(
                    "truncated: it has {} bytes, its partition table wants {}",
                    image.bytes,
                    at.saturating_add(size)
                ),
            )
            .advice("copy the image again from where it came; the membership database itself is not cut")
        } else {
            Finding::new(Severity::Warning, what, error.to_string())
        };
        finding = finding.at(at, size);
        if repair && !cut {
            image.restore_table(side)?;
            finding.repaired("written anew from the other copy");
        }
        findings.push(finding);
    }
    Ok(findings)
}

fn check_superblocks(
    image: &Image,
    copies: &[Block<Superblock>; 2],
    newest: &Superblock,
    repair: bool,
) -> Result<Vec<Finding>, ImageError> {
    let mut findings = Vec::new();
    for (copy, block) in (0u8..).zip(copies) {
        let problem = match block {
            Block::Good(s) if s == newest => continue,
            Block::Good(s) if s.generation == newest.generation => {
                "differs from the other copy in the same generation".to_owned()
            }
            Block::Good(s) => format!("generation {}, the other copy has {}", s.generation, newest.generation),
            Block::Damaged(e) => e.to_string(),
            Block::Blank | Block::Unread | Block::Unreadable(_) => "blank".to_owned(),
        };
        let at = layout::superblock(copy);
        let mut finding = Finding::new(Severity::Warning, format!("superblock copy {copy}"), problem).record(image, at);
        if repair {
            image.write(at, &newest.encode(copy))?;
            finding.repaired("written anew from the other copy");
        }
        findings.push(finding);
    }
    if let Err(e) = newest.check_timing() {
        findings.push(
            Finding::new(Severity::Error, "superblock", e.to_string())
                .record(image, layout::superblock(0))
                .advice("no node will run with it: create the database anew with safe time-outs"),
        );
    }
    Ok(findings)
}

fn check_configs(image: &Image, snapshot: &Snapshot, repair: bool) -> Result<Vec<Finding>, ImageError> {
    let mut findings = Vec::new();
    for node in &snapshot.nodes {
        let problem = match &node.config {
            Block::Good(_) => continue,
            Block::Damaged(e) => e.to_string(),
            Block::Blank | Block::Unread | Block::Unreadable(_) => "blank".to_owned(),
        };
        let at = layout::config(node.node);
        let mut finding = Finding::new(Severity::Error, format!("config.{}", node.node), problem).record(image, at);
        if repair {
            finding.repaired(repair::config(image, snapshot, node)?);
        }
        findings.push(finding);
    }
    let good = || snapshot.nodes.iter().filter_map(|n| Some((n.node, n.config.good()?)));
    for (node, NodeConfig { machine, .. }) in good() {
        // Each pair once: when its lower node is looked at.
        if let Err(FindError::Ambiguous(a, b)) = find_node(good(), machine.uuid, machine.mac)
            && a == node
        {
            let problem = format!("nodes {a} and {b} have the same machine identity: neither can be told by it");
            findings.push(
                Finding::new(Severity::Error, format!("config.{a}"), problem)
                    .record(image, layout::config(a))
                    .advice("start the nodes with node=N on the kernel command line, or create the database anew"),
            );
        }
    }
    Ok(findings)
}

fn check_identity(
    image: &Image,
    snapshot: &Snapshot,
    node: &NodeRecords,
    repair: bool,
) -> Result<Vec<Finding>, ImageError> {
    let mut findings = Vec::new();
    let both = node.identity.iter().all(|b| matches!(b, Block::Damaged(_)));
    let none = !node.identity.iter().any(|b| b.good().is_some());
    for (slot, block) in (0u8..).zip(&node.identity) {
        let Block::Damaged(e) = block else { continue };
        let severity = if both || none { Severity::Error } else { Severity::Warning };
        let at = layout::identity(node.node, slot);
        let mut finding =
            Finding::new(severity, format!("identity.{} slot {slot}", node.node), e.to_string()).record(image, at);
        if repair {
            finding.repaired(repair::identity(image, snapshot, node, slot)?);
        }
        findings.push(finding);
    }
    Ok(findings)
}

fn check_state(
    image: &Image,
    snapshot: &Snapshot,
    node: &NodeRecords,
    repair: bool,
) -> Result<Vec<Finding>, ImageError> {
    let mut findings = Vec::new();
    if let Block::Damaged(e) = &node.heartbeat {
        let at = layout::heartbeat(node.node);
        let mut finding =
            Finding::new(Severity::Error, format!("heartbeat.{}", node.node), e.to_string()).record(image, at);
        if repair {
            finding.repaired(repair::heartbeat(image, snapshot, node)?);
        }
        findings.push(finding);
    }
    let severity = if node.promised().is_none() { Severity::Error } else { Severity::Warning };
    for (slot, block) in (0u8..).zip(&node.ballots) {
        let Block::Damaged(e) = block else { continue };
        let at = layout::ballot(node.node, slot);
        let mut finding =
            Finding::new(severity, format!("ballot.{} slot {slot}", node.node), e.to_string()).record(image, at);
        if repair {
            let superblock = &snapshot.superblock;
            image.write(at, &superblock.blanks.record(superblock.cluster, BallotBlock::place(node.node, slot)))?;
            finding.repaired(match severity {
                Severity::Warning => "blanked: what is torn was never committed, the other slot counts",
                Severity::Error => "blanked: this node's promises are lost; what the others accepted stands",
            });
        }
        findings.push(finding);
    }
    Ok(findings)
}

fn check_history(image: &Image, snapshot: &Snapshot, repair: bool) -> Result<Option<Finding>, ImageError> {
    let committed = committed(snapshot);
    let Some((node, name)) = committed.lost else { return Ok(None) };
    let problem = format!(
        "database damaged: heartbeat.{node} names view {} of ballot {} as committed, and nothing on the disk is as new",
        name.number, name.ballot
    );
    let mut finding = Finding::new(Severity::Error, "ballots", problem).record(image, layout::heartbeat(node));
    if repair {
        finding.repaired(repair::history(image, snapshot, name)?);
    }
    Ok(Some(finding))
}
