//! A node's two slots for kernels, as far as a scenario can tell them apart: what the kernel in each says of its version, and
//! whether it is whole. What the bootstrap does with them on a real disk is `boot/bootstrap`'s; here is what comes of it.

use quorate_bootstrap::Bad;
use quorate_database::KernelSlot;
use quorate_scenario::model::Install;

/// What every kernel of the simulator was built as.
const BUILT: &str = env!("CARGO_PKG_VERSION");

/// A kernel in a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Installed {
    version: String,
    whole: bool,
}

/// A node's slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slots {
    first: KernelSlot,
    a: Option<Installed>,
    b: Option<Installed>,
}

impl Default for Slots {
    /// As a world begins: one kernel, in slot A.
    fn default() -> Self {
        let a = Some(Installed { version: BUILT.to_owned(), whole: true });
        Self { first: KernelSlot::A, a, b: None }
    }
}

impl Slots {
    fn of(&mut self, slot: KernelSlot) -> &mut Option<Installed> {
        match slot {
            KernelSlot::A => &mut self.a,
            KernelSlot::B => &mut self.b,
        }
    }

    /// Puts a kernel into a slot.
    pub fn install(&mut self, install: &Install) {
        let version = install.version.clone().unwrap_or_else(|| BUILT.to_owned());
        *self.of(install.slot) = Some(Installed { version, whole: true });
        if install.boot {
            self.first = install.slot;
        }
    }

    /// Turns a bit of the kernel in a slot.
    pub fn damage(&mut self, slot: KernelSlot) {
        if let Some(installed) = self.of(slot) {
            installed.whole = false;
        }
    }

    /// Which slot is booted first from now on.
    pub fn choose(&mut self, slot: KernelSlot) {
        self.first = slot;
    }

    /// The version of the kernel that is booted, and the words that the bootstrap says of it; `None` if neither slot has one.
    pub fn boot(&mut self) -> Option<(String, String)> {
        let first = self.first;
        let bad = match self.of(first).clone() {
            Some(Installed { version, whole: true }) => return Some((version, format!("slot={first}"))),
            Some(_) => Bad::Checksum,
            None => Bad::Absent,
        };
        let other = first.other();
        let Installed { version, .. } = self.of(other).clone().filter(|installed| installed.whole)?;
        Some((version, format!("slot={other} passed_over={first}:{}", bad.word())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_slot_is_booted_where_the_first_is_no_good() {
        let mut slots = Slots::default();
        let built = BUILT.to_owned();
        assert_eq!(slots.boot(), Some((built.clone(), "slot=a".to_owned())));
        slots.install(&Install { slot: KernelSlot::B, version: Some("next".into()), boot: true });
        assert_eq!(slots.boot(), Some(("next".to_owned(), "slot=b".to_owned())));
        slots.damage(KernelSlot::B);
        assert_eq!(slots.boot(), Some((built, "slot=a passed_over=b:wrong-checksum".to_owned())));
        slots.damage(KernelSlot::A);
        assert_eq!(slots.boot(), None);
        slots.install(&Install { slot: KernelSlot::A, version: None, boot: false });
        slots.choose(KernelSlot::A);
        assert_eq!(slots.boot().map(|(_, words)| words), Some("slot=a".to_owned()));
    }
}
