//! What tells the machines apart: NIC addresses, SMBIOS UUIDs, interconnect groups, the shared disk's name.
//!
//! All are functions of the machine's number, so that a database can name a machine before it exists.

use quorate_switch::Mac;

/// Serial number of the shared disk (VPD page 0x80).
pub const DISK_SERIAL: &str = "quorate-shared";

/// World wide name of the shared disk (VPD page 0x83): NAA 5, a made-up vendor.
pub const DISK_WWN: u64 = 0x5000_c500_7175_6f01;

/// The NIC address of machine `n`.
pub const fn mac(n: u8) -> Mac {
    [0x52, 0x54, 0x00, 0x51, 0x00, n]
}

/// The SMBIOS UUID of machine `n`, as its sixteen bytes in the order in which they are written out.
pub const fn uuid(n: u8) -> [u8; 16] {
    [0x71, 0x75, 0x6f, 0x72, 0x61, 0x74, 0x40, 0x65, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, n]
}

/// The Ethernet address of the multicast group 239.77.0.(n + 1), in which node `n` listens on the interconnect.
pub const fn group(n: u8) -> Mac {
    [0x01, 0x00, 0x5e, 0x4d, 0x00, n.wrapping_add(1)]
}

/// A NIC address as people and QEMU write it.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// A UUID as people and QEMU write it.
pub fn uuid_text(uuid: [u8; 16]) -> String {
    let hex: String = uuid.iter().map(|b| format!("{b:02x}")).collect();
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| hex.get(part).unwrap_or_default().to_owned()).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_qemu_reads_them() {
        assert_eq!(mac_text(mac(3)), "52:54:00:51:00:03");
        assert_eq!(uuid_text(uuid(3)), "71756f72-6174-4065-8000-000000000003");
        assert_eq!(mac_text(group(0)), "01:00:5e:4d:00:01");
    }
}
