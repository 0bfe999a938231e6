//! All set-up: the Rust target, QEMU, the node image. Nothing is needed beforehand but cargo.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use quorate_trace::LogTable;
use serde_json::Value;

use crate::error::SetupError;

const TARGET: &str = "x86_64-unknown-none";
const PACKAGE: &str = "quorate-node-image";
const QEMU: &str = "qemu-system-x86_64";

/// Which log statements are compiled into the node image.
const LOG_LEVEL: &str = "info";

/// How long cargo takes to find that there is nothing to do; only after that the user is told of a build.
const NOTHING_TO_DO: Duration = Duration::from_millis(700);

/// What is to be set up.
#[derive(Clone, Debug, Default)]
pub struct SetupOptions {
    /// Take this node image instead of building one.
    pub image: Option<PathBuf>,
}

/// What the set-up gives.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The QEMU program.
    pub qemu: PathBuf,
    /// The node image, an ELF file.
    pub image: PathBuf,
    /// Its bytes.
    pub elf: Arc<[u8]>,
    /// How to read its log, if it has one.
    pub log: Option<Arc<LogTable>>,
}

/// Does all set-up. `progress` is given one line for each thing that takes time.
///
/// # Errors
/// If something is missing and cannot be installed, or fails; the last line of the message says what to do.
pub fn setup(options: &SetupOptions, progress: &mut dyn FnMut(&str)) -> Result<Tools, SetupError> {
    let qemu = qemu(progress)?;
    let image = match &options.image {
        Some(image) => image.clone(),
        None => {
            target(progress)?;
            build(progress)?
        }
    };
    let what = format!("cannot read the node image {}", image.display());
    let elf: Arc<[u8]> = std::fs::read(&image).map_err(|error| SetupError::Io { what, error })?.into();
    // An image without a log table is still a node: its log is then kept as it comes.
    let log = LogTable::new(&elf, workspace_root()).ok().map(Arc::new);
    Ok(Tools { qemu, image, elf, log })
}

/// The folder of the workspace that this harness was built from.
pub fn workspace_root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Adds the bare-metal target, if it is missing.
fn target(progress: &mut dyn FnMut(&str)) -> Result<(), SetupError> {
    let sysroot = run(in_workspace("rustc").args(["--print", "sysroot"]))?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib");
    if libraries.is_dir() {
        return Ok(());
    }
    progress(&format!("installing the Rust target {TARGET}"));
    let missing = |_| SetupError::Missing { tool: "the Rust target", command: format!("rustup target add {TARGET}") };
    run(in_workspace("rustup").args(["target", "add", TARGET])).map(drop).map_err(missing)
}

/// Builds the node image and returns its path. Cargo decides whether anything is to be done.
fn build(progress: &mut dyn FnMut(&str)) -> Result<PathBuf, SetupError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = in_workspace(cargo);
    command
        .args(["build", "--quiet", "--package", PACKAGE, "--profile", "node", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .env("DEFMT_LOG", LOG_LEVEL)
        // They would replace the linker's flags in `.cargo/config.toml`.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let line = shown(&command);
    let (send, done) = mpsc::channel();
    std::thread::spawn(move || send.send(run(&mut command)));
    let messages = done.recv_timeout(NOTHING_TO_DO).or_else(|_| {
        progress("building the node image");
        done.recv()
    });
    let failed = || SetupError::Failed { command: line.clone(), output: "cargo named no executable".into() };
    messages.map_err(|_| failed())??.lines().rev().find_map(executable).ok_or_else(failed)
}

/// The executable that a line of cargo's messages names.
fn executable(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let name = PACKAGE.replace("quorate-", "");
    let target = message["target"]["name"].as_str()?;
    (target == PACKAGE || target == name).then_some(())?;
    message["executable"].as_str().map(PathBuf::from)
}

/// Finds QEMU, or installs it where that is possible without asking.
fn qemu(progress: &mut dyn FnMut(&str)) -> Result<PathBuf, SetupError> {
    if let Some(found) = in_path(QEMU) {
        return Ok(found);
    }
    let is_debian = in_path("apt-get").is_some();
    if is_debian && rustix::process::geteuid().is_root() {
        progress("installing QEMU: apt-get install qemu-system-x86");
        run(&mut apt_get(&["update", "-q"]))?;
        run(&mut apt_get(&["install", "-q", "-y", "--no-install-recommends", "qemu-system-x86"]))?;
        if let Some(found) = in_path(QEMU) {
            return Ok(found);
        }
    }
    Err(SetupError::Missing { tool: QEMU, command: install_command(|program| in_path(program).is_some()) })
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The command that installs QEMU with the package manager that is there.
fn install_command(has: impl Fn(&str) -> bool) -> String {
    const COMMANDS: [(&str, &str); 4] = [
        ("apt-get", "sudo apt-get install qemu-system-x86"),
        ("dnf", "sudo dnf install qemu-system-x86-core"),
        ("pacman", "sudo pacman -S qemu-system-x86"),
        ("brew", "brew install qemu"),
    ];
    match COMMANDS.iter().find(|(program, _)| has(program)) {
        Some((_, command)) => (*command).to_owned(),
        None => COMMANDS.map(|(_, command)| command).join("  or  "),
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn in_workspace(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace_root());
    command
}

/// Runs a command and returns its output.
fn run(command: &mut Command) -> Result<String, SetupError> {
    let what = format!("cannot run `{}`", shown(command));
    let output = command.stdin(Stdio::null()).output().map_err(|error| SetupError::Io { what, error })?;
    let Output { status, stdout, stderr } = output;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let output = String::from_utf8_lossy(&stderr).trim().to_owned();
    Err(SetupError::Failed { command: shown(command), output })
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_qemu_is_one_command_for_the_package_manager_that_is_there() {
        assert_eq!(install_command(|p| p == "dnf"), "sudo dnf install qemu-system-x86-core");
        assert_eq!(install_command(|p| p == "brew"), "brew install qemu");
        let all = install_command(|_| false);
        assert!(all.contains("apt-get") && all.contains("pacman") && !all.contains('\n'));
    }

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let built = r#"{"reason":"compiler-artifact","target":{"name":"quorate-node-image"},"executable":"/t/x"}"#;
        assert_eq!(executable(built), Some("/t/x".into()));
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(executable(r#"{"target":{"name":"other"},"executable":"/t/x"}"#), None);
        assert_eq!(executable("not JSON"), None);
    }

    #[test]
    fn the_workspace_is_where_the_crates_are() {
        assert!(workspace_root().join("qemu/launch/Cargo.toml").is_file());
    }
}
