//! I/O ports, as far as PCI configuration space needs them (PCI Local Bus 3.0 § 3.2.2.3.2).

/// Chooses function and register.
pub(crate) const ADDRESS: u16 = 0xcf8;
/// The chosen register's first byte; three more follow.
pub(crate) const DATA: u16 = 0xcfc;

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod ports {
    use core::arch::asm;

    /// Only used with the configuration ports, as all here.
    pub(crate) fn outl(port: u16, value: u32) {
        // SAFETY: the configuration ports touch no memory by themselves.
        unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) }
    }

    pub(crate) fn outw(port: u16, value: u16) {
        // SAFETY: as in `outl`.
        unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) }
    }

    pub(crate) fn outb(port: u16, value: u8) {
        // SAFETY: as in `outl`.
        unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
    }

    pub(crate) fn inl(port: u16) -> u32 {
        let value;
        // SAFETY: as in `outl`.
        unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) }
        value
    }

    pub(crate) fn inw(port: u16) -> u16 {
        let value;
        // SAFETY: as in `outl`.
        unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack, preserves_flags)) }
        value
    }

    pub(crate) fn inb(port: u16) -> u8 {
        let value;
        // SAFETY: as in `outl`.
        unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) }
        value
    }
}

#[cfg(not(all(target_os = "none", target_arch = "x86_64")))]
mod ports {
    /// A process of the host has no ports; every slot of its bus is empty.
    pub(crate) fn outl(_port: u16, _value: u32) {}

    pub(crate) fn outw(_port: u16, _value: u16) {}

    pub(crate) fn outb(_port: u16, _value: u8) {}

    pub(crate) fn inl(_port: u16) -> u32 {
        u32::MAX
    }

    pub(crate) fn inw(_port: u16) -> u16 {
        u16::MAX
    }

    pub(crate) fn inb(_port: u16) -> u8 {
        u8::MAX
    }
}

pub(crate) use ports::{inb, inl, inw, outb, outl, outw};
