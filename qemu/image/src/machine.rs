//! Machine identities as text: UUIDs and NIC addresses.

/// `00112233-4455-6677-8899-aabbccddeeff`, with or without hyphens, any case.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    parse_hex(&digits)
}

/// `52:54:00:12:34:56`, with colons or hyphens, any case.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let digits: Vec<u8> = text.bytes().filter(|b| !matches!(b, b':' | b'-')).collect();
    parse_hex(&digits)
}

/// The text form of a UUID.
pub fn format_uuid(uuid: &[u8; 16]) -> String {
    quorate_base::ClusterId(*uuid).to_string()
}

/// The text form of a NIC address.
pub fn format_mac(mac: &[u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

fn parse_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (to, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |b: u8| char::from(b).to_digit(16);
        let (high, low) = pair.split_first()?;
        *to = u8::try_from(digit(*high)? << 4 | digit(*low.first()?)?).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_survive_their_text_form() {
        let uuid = parse_uuid("00112233-4455-6677-8899-AABBCCDDEEFF").unwrap();
        assert_eq!(format_uuid(&uuid), "00112233-4455-6677-8899-aabbccddeeff");
        let mac = parse_mac("52:54:00:aB:cD:01").unwrap();
        assert_eq!(format_mac(&mac), "52:54:00:ab:cd:01");
        assert_eq!((parse_mac("52:54"), parse_mac("52:54:00:12:34:5g")), (None, None));
        assert_eq!(parse_uuid("äää"), None);
    }
}
