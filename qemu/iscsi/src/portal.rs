//! Where a logical unit is: `iscsi://HOST[:PORT]/IQN/LUN`.

use std::fmt;

/// iSCSI's registered port.
const PORT: u16 = 3260;

/// The highest logical unit number of SAM-5's flat address space.
const LUN_MAX: u16 = 0x3fff;

/// The longest iSCSI name, bytes (RFC 7143 §4.2.7.1).
const NAME_MAX: usize = 223;

/// A target's logical unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Portal {
    /// Host name or address; an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The target's name.
    pub target: String,
    /// The unit's number.
    pub lun: u16,
}

/// What is wrong with such a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortalError {
    url: String,
    what: &'static str,
}

impl fmt::Display for PortalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no iSCSI disk: {}; write iscsi://HOST:PORT/IQN/LUN", self.url, self.what)
    }
}

impl std::error::Error for PortalError {}

impl Portal {
    /// From a URL.
    ///
    /// # Errors
    /// If it is none, or asks for what is not supported.
    pub fn parse(url: &str) -> Result<Self, PortalError> {
        parse(url).map_err(|what| PortalError { url: url.to_owned(), what })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The unit's number as commands carry it (SAM-5 §4.7: peripheral addressing, or flat above 255).
    pub(crate) fn lun_bytes(&self) -> [u8; 8] {
        let [high, low] = self.lun.to_be_bytes();
        let flat = if self.lun > 0xff { 0x40 } else { 0 };
        [flat | high, low, 0, 0, 0, 0, 0, 0]
    }
}

impl fmt::Display for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "iscsi://{}/{}/{}", self.address(), self.target, self.lun)
    }
}

fn parse(url: &str) -> Result<Portal, &'static str> {
    let rest = url.strip_prefix("iscsi://").ok_or("it does not begin with iscsi://")?;
    let parts: Vec<&str> = rest.split('/').collect();
    let [address, target, lun] = parts.as_slice() else { return Err("it needs a host, a target and a unit") };
    if address.contains('@') || address.contains('%') {
        return Err("names and passwords (CHAP) are not supported");
    }
    let (host, port) = match address.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or("the address has no closing bracket")?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err("after the address only :PORT may follow"),
            }
        }
        None => address.split_once(':').map_or((*address, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("it names no host");
    }
    let port = match port {
        None => PORT,
        Some(port) => port.parse().ok().filter(|p| *p != 0).ok_or("its port is not 1 to 65535")?,
    };
    let named = ["iqn.", "eui.", "naa."].iter().any(|kind| target.starts_with(kind));
    let plain = target.bytes().all(|b| b.is_ascii_graphic() && b != b',');
    if !named || !plain || target.len() > NAME_MAX {
        return Err("its target is no iSCSI name (iqn.…, eui.… or naa.…)");
    }
    let lun = lun.parse().ok().filter(|l| *l <= LUN_MAX).ok_or("its unit is not 0 to 16383")?;
    Ok(Portal { host: host.to_owned(), port, target: (*target).to_owned(), lun })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_unit_or_say_what_is_wrong() {
        let portal = Portal::parse("iscsi://10.0.0.7:3261/iqn.2003-01.org.example:disk/300").unwrap();
        assert_eq!((portal.address().as_str(), portal.lun), ("10.0.0.7:3261", 300));
        assert_eq!(portal.lun_bytes()[..2], [0x41, 0x2c]);
        assert_eq!(portal.to_string(), "iscsi://10.0.0.7:3261/iqn.2003-01.org.example:disk/300");
        assert_eq!(Portal::parse("iscsi://san/iqn.x/1").unwrap().port, PORT);
        let v6 = Portal::parse("iscsi://[fe80::1]:860/eui.0123456789abcdef/0").unwrap();
        assert_eq!((v6.host.as_str(), v6.address().as_str()), ("fe80::1", "[fe80::1]:860"));
        for (url, what) in [
            ("iscsi:/san/iqn.x/1", "begin with"),
            ("iscsi://san/iqn.x", "a host, a target and a unit"),
            ("iscsi://san/iqn.x/1/2", "a host, a target and a unit"),
            ("iscsi://me%secret@san/iqn.x/1", "CHAP"),
            ("iscsi:///iqn.x/1", "no host"),
            ("iscsi://san:0/iqn.x/1", "port"),
            ("iscsi://san:99999/iqn.x/1", "port"),
            ("iscsi://[::1/iqn.x/1", "bracket"),
            ("iscsi://san/disk/1", "no iSCSI name"),
            ("iscsi://san/iqn.a b/1", "no iSCSI name"),
            ("iscsi://san/iqn.x/one", "unit"),
            ("iscsi://san/iqn.x/20000", "unit"),
        ] {
            let error = Portal::parse(url).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains(url), "{url}: {error}");
        }
    }
}
