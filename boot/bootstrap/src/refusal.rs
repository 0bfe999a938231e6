//! Why a machine does not boot: what, where, and what to do.

use core::fmt;

use quorate_base::NodeId;
use quorate_database::gpt::GptError;
use quorate_database::{RecordError, SuperblockError};

use crate::slot::Bad;

/// Why a machine does not boot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// No disk has a membership database; the reason of the last one that has a partition table.
    NoDatabase(GptError),
    /// Disks of two clusters are attached.
    TwoClusters,
    /// There is no superblock to go by.
    Superblock(SuperblockError),
    /// No node record names this machine.
    NotConfigured,
    /// Two node records name it.
    Ambiguous(NodeId, NodeId),
    /// A node record is damaged, so that nobody knows whether it names this machine.
    Record(NodeId, Option<RecordError>),
    /// Its record says that it must not join.
    Disabled(NodeId),
    /// Its record says that nothing is to be booted.
    Nothing(NodeId),
    /// The disk has no partition for kernels.
    NoKernels(NodeId, GptError),
    /// Neither slot has a kernel that can be booted.
    NoKernel(NodeId, [Bad; 2]),
    /// The command line is longer than a kernel takes.
    CommandLine(NodeId),
}

impl fmt::Display for Refusal {
    /// What is wrong and where.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDatabase(error) => write!(f, "no shared disk with a membership database was found: {error}"),
            Self::TwoClusters => f.write_str("disks of two clusters are attached to this machine"),
            Self::Superblock(error) => write!(f, "membership database: {error}"),
            Self::NotConfigured => {
                f.write_str("this machine is not configured: no node record has its SMBIOS UUID or a NIC's address")
            }
            Self::Ambiguous(a, b) => write!(f, "the records of nodes {a} and {b} both name this machine"),
            Self::Record(node, Some(error)) => write!(f, "the record of node {node} cannot be used: {error}"),
            Self::Record(node, None) => write!(f, "the record of node {node} cannot be read"),
            Self::Disabled(node) => write!(f, "node {node} is disabled in the membership database"),
            Self::Nothing(node) => write!(f, "the record of node {node} says that nothing is to be booted"),
            Self::NoKernels(node, error) => {
                write!(f, "no kernel for node {node}: the disk has no partition for kernels ({error})")
            }
            Self::NoKernel(node, [a, b]) => write!(f, "no kernel for node {node}: slot a: {a}; slot b: {b}"),
            Self::CommandLine(node) => write!(f, "the command line of node {node} is too long"),
        }
    }
}

impl core::error::Error for Refusal {}

impl Refusal {
    /// What to do about it.
    pub fn advice(&self) -> Advice<'_> {
        Advice(self)
    }
}

/// What to do about a refusal, as text.
#[derive(Clone, Copy, Debug)]
pub struct Advice<'r>(&'r Refusal);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Refusal::NoDatabase(_) => f.write_str("attach the cluster's disk; `cargo cluster db check IMAGE` tells what is wrong with it"),
            Refusal::TwoClusters => f.write_str("leave only one cluster's disk attached"),
            Refusal::Superblock(_) => f.write_str("run `cargo cluster db check IMAGE --repair` while no node runs"),
            Refusal::NotConfigured => f.write_str(
                "put the UUID or the address shown above into a node record (`cargo cluster image machine --node N IMAGE`)",
            ),
            Refusal::Ambiguous(..) => f.write_str("each machine must be named by one record: change one of the two"),
            Refusal::Record(..) => f.write_str("run `cargo cluster db check IMAGE --repair` while no node runs"),
            Refusal::Disabled(_) => f.write_str("nothing, if that is meant; else enable the node in its record"),
            Refusal::Nothing(node) => {
                write!(f, "nothing, if that is meant; else `cargo cluster image boot --node {node} --slot a IMAGE`")
            }
            Refusal::NoKernels(..) => f.write_str("make the disk with `cargo cluster db create`, or boot this node directly"),
            Refusal::NoKernel(node, _) => {
                write!(f, "run `cargo cluster image install-kernel --node {node} --slot a IMAGE`")
            }
            Refusal::CommandLine(node) => {
                write!(f, "install a kernel with fewer words (`cargo cluster image install-kernel --node {node} --words …`)")
            }
        }
    }
}
