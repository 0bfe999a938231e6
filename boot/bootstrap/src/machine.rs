//! This machine's identity: by what a node record names it.

use heapless::Vec;
use quorate_base::NodeId;
use quorate_database::{FindError, MachineId, NodeConfig, find_node};

/// NICs that are looked at.
pub const NICS_MAX: usize = 16;

/// A machine, as its firmware tells.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Machine {
    /// Its SMBIOS UUID in the order of the text form.
    pub uuid: Option<[u8; 16]>,
    /// The addresses of its NICs, as far as the firmware has drivers for them.
    pub macs: Vec<[u8; 6], NICS_MAX>,
}

impl Machine {
    /// Which node it is: as the node image finds out when its command line does not say (the record that has the UUID or a NIC's
    /// address), only that the firmware may see several NICs.
    ///
    /// # Errors
    /// If no record names it, or more than one.
    pub fn find<'c>(
        &self,
        configs: impl Iterator<Item = (NodeId, &'c NodeConfig)> + Clone,
    ) -> Result<NodeId, FindError> {
        let macs = self.macs.iter().map(|mac| Some(*mac));
        let mut found = None;
        // Once without any address: a machine may have no NIC that the firmware knows.
        for mac in core::iter::once(None).chain(macs) {
            match (find_node(configs.clone(), self.uuid, mac), found) {
                (Ok(node), None) => found = Some(node),
                (Ok(node), Some(before)) if node != before => return Err(FindError::Ambiguous(before, node)),
                (Err(error @ FindError::Ambiguous(..)), _) => return Err(error),
                (Ok(_) | Err(FindError::NotConfigured), _) => {}
            }
        }
        found.ok_or(FindError::NotConfigured)
    }

    /// Whether it is this one.
    pub fn is(&self, machine: &MachineId) -> bool {
        let uuid = MachineId { uuid: self.uuid, mac: None };
        uuid.meets(machine) || self.macs.iter().any(|mac| MachineId { uuid: None, mac: Some(*mac) }.meets(machine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_database::Name;

    fn node(n: u8) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn config(uuid: Option<u8>, mac: Option<u8>) -> NodeConfig {
        let machine = MachineId { uuid: uuid.map(|b| [b; 16]), mac: mac.map(|b| [b; 6]) };
        NodeConfig { machine, ..NodeConfig::named(Name::new("x").unwrap()) }
    }

    #[test]
    fn a_machine_is_found_by_uuid_or_by_any_of_its_nics() {
        let configs = [config(Some(1), Some(11)), config(Some(2), None), config(None, Some(13)), config(None, None)];
        let all = || (0..).map(node).zip(&configs);
        let find = |uuid: Option<u8>, macs: &[u8]| {
            let macs = macs.iter().map(|b| [*b; 6]).collect();
            Machine { uuid: uuid.map(|b| [b; 16]), macs }.find(all())
        };
        assert_eq!(find(Some(2), &[]), Ok(node(1)));
        assert_eq!(find(None, &[99, 13]), Ok(node(2)));
        assert_eq!(find(Some(1), &[99, 11]), Ok(node(0)));
        assert_eq!(find(Some(9), &[99]), Err(FindError::NotConfigured));
        assert_eq!(find(None, &[]), Err(FindError::NotConfigured));
        assert_eq!(find(Some(1), &[13]), Err(FindError::Ambiguous(node(0), node(2))));
        assert_eq!(find(None, &[11, 13]), Err(FindError::Ambiguous(node(0), node(2))));
    }

    #[test]
    fn a_record_without_identity_is_nobodys() {
        let machine = Machine { uuid: Some([1; 16]), macs: Vec::from_slice(&[[2; 6]]).unwrap() };
        assert!(machine.is(&config(Some(1), None).machine) && machine.is(&config(None, Some(2)).machine));
        assert!(!machine.is(&config(None, None).machine) && !Machine::default().is(&config(Some(1), Some(2)).machine));
    }
}
