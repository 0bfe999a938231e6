//! UEFI firmware for the machines (OVMF), and the bootstrap that it starts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::SetupError;
use crate::setup::{Progress, Tools, apt_get, bootstrap, in_path, run};

/// What machines that boot by firmware are made with.
#[derive(Clone, Debug)]
pub struct Uefi {
    /// The firmware's code.
    pub code: PathBuf,
    /// Its variables as they are delivered; each machine has a copy of its own.
    pub variables: PathBuf,
    /// The bootstrap, `BOOTX64.EFI`.
    pub bootstrap: Arc<[u8]>,
}

/// Where distributions put OVMF's code and its variables, without Secure Boot.
const PLACES: [(&str, &str); 5] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/local/share/qemu/edk2-x86_64-code.fd", "/usr/local/share/qemu/edk2-i386-vars.fd"),
];

/// Sees to it that machines can boot by firmware: finds or installs OVMF, builds the bootstrap.
///
/// # Errors
/// If something is missing and cannot be installed, or fails; the last line says what to do.
pub fn uefi(tools: &mut Tools, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), SetupError> {
    if tools.uefi.is_some() {
        return Ok(());
    }
    let (code, variables) = firmware(progress)?;
    let path = bootstrap(progress)?;
    let what = format!("cannot read the bootstrap {}", path.display());
    let bootstrap = std::fs::read(&path).map_err(|error| SetupError::Io { what, error })?.into();
    tools.uefi = Some(Uefi { code, variables, bootstrap });
    Ok(())
}

fn firmware(progress: &mut dyn FnMut(Progress<'_>)) -> Result<(PathBuf, PathBuf), SetupError> {
    if let Some(found) = find(Path::is_file) {
        return Ok(found);
    }
    if in_path("apt-get").is_some() && rustix::process::geteuid().is_root() {
        progress(Progress::Begun("installing UEFI firmware: apt-get install ovmf"));
        run(&mut apt_get(&["update", "-q"]))?;
        run(&mut apt_get(&["install", "-q", "-y", "--no-install-recommends", "ovmf"]))?;
        if let Some(found) = find(Path::is_file) {
            return Ok(found);
        }
    }
    Err(SetupError::Missing { tool: "UEFI firmware for QEMU (OVMF)", command: command(|p| in_path(p).is_some()) })
}

/// The first place that has both.
fn find(is_file: impl Fn(&Path) -> bool) -> Option<(PathBuf, PathBuf)> {
    let both = |(code, variables): &&(&str, &str)| is_file(Path::new(code)) && is_file(Path::new(variables));
    PLACES.iter().find(both).map(|(code, variables)| (code.into(), variables.into()))
}

/// The command that installs it with the package manager that is there.
fn command(has: impl Fn(&str) -> bool) -> String {
    const COMMANDS: [(&str, &str); 4] = [
        ("apt-get", "sudo apt-get install ovmf"),
        ("dnf", "sudo dnf install edk2-ovmf"),
        ("pacman", "sudo pacman -S edk2-ovmf"),
        ("brew", "brew install qemu"),
    ];
    match COMMANDS.iter().find(|(program, _)| has(program)) {
        Some((_, command)) => (*command).to_owned(),
        None => COMMANDS.map(|(_, command)| command).join("  or  "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_counts_with_its_variables_only() {
        let all = |names: &'static [&'static str]| move |p: &Path| names.iter().any(|n| p == Path::new(n));
        assert_eq!(find(all(&["/usr/share/OVMF/OVMF_CODE_4M.fd"])), None);
        let found = find(all(&[
            "/usr/share/OVMF/OVMF_CODE_4M.fd",
            "/usr/share/edk2/ovmf/OVMF_CODE.fd",
            "/usr/share/edk2/ovmf/OVMF_VARS.fd",
        ]));
        assert_eq!(found.map(|(code, _)| code), Some("/usr/share/edk2/ovmf/OVMF_CODE.fd".into()));
    }

    #[test]
    fn what_is_missing_is_one_command() {
        assert_eq!(command(|p| p == "apt-get"), "sudo apt-get install ovmf");
        assert!(command(|_| false).contains("edk2-ovmf"));
    }
}
