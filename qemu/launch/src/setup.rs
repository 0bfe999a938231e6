//! All set-up: the Rust target, QEMU, the node image. Nothing is needed beforehand but cargo.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use quorate_trace::LogTable;
use serde_json::Value;

use crate::error::SetupError;
use crate::firmware::Uefi;
use crate::iscsi::Programs;

const TARGET: &str = "x86_64-unknown-none";
const NODE_IMAGE: &str = "quorate-node-image";
const HOBBY_OS: &str = "quorate-hobby-os";
const UEFI_TARGET: &str = "x86_64-unknown-uefi";
const BOOTSTRAP: &str = "quorate-uefi";
const QEMU: &str = "qemu-system-x86_64";

/// Which log statements are compiled into the node image.
const LOG_LEVEL: &str = "info";

/// What takes time during the set-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress<'a> {
    /// It begins.
    Begun(&'a str),
    /// A build goes on.
    Built {
        /// Crates that are through.
        done: u32,
        /// Of so many. Both are equal when it is over.
        all: u32,
        /// Which are being compiled.
        what: &'a str,
    },
}

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
    /// What [`prepare`](crate::iscsi::prepare) found for disks over iSCSI.
    pub programs: Programs,
    /// What [`uefi`](crate::uefi) found for machines that boot by firmware.
    pub uefi: Option<Uefi>,
}

/// Does all set-up. `progress` is told of each thing that takes time.
///
/// # Errors
/// If something is missing and cannot be installed, or fails; the last line of the message says what to do.
pub fn setup(options: &SetupOptions, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Tools, SetupError> {
    let qemu = qemu(progress)?;
    let image = match &options.image {
        Some(image) => image.clone(),
        None => {
            target(TARGET, progress)?;
            build(NODE_IMAGE, TARGET, "node", progress)?
        }
    };
    let what = format!("cannot read the node image {}", image.display());
    let elf: Arc<[u8]> = std::fs::read(&image).map_err(|error| SetupError::Io { what, error })?.into();
    // An image without a log table is still a node: its log is then kept as it comes.
    let log = LogTable::new(&elf, workspace_root()).ok().map(Arc::new);
    Ok(Tools { qemu, image, elf, log, programs: Programs::default(), uefi: None })
}

/// Builds the hobby OS, the other kernel that can be a node, and gives its path.
///
/// # Errors
/// If it cannot be built.
pub fn hobby_os(progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, SetupError> {
    target(TARGET, progress)?;
    build(HOBBY_OS, TARGET, "node", progress)
}

/// Builds the node image alone, without QEMU, and gives its path.
///
/// # Errors
/// If it cannot be built.
pub fn node_image(progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, SetupError> {
    target(TARGET, progress)?;
    build(NODE_IMAGE, TARGET, "node", progress)
}

/// Builds the UEFI bootstrap, and gives its path.
///
/// # Errors
/// If it cannot be built.
pub fn bootstrap(progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, SetupError> {
    target(UEFI_TARGET, progress)?;
    build(BOOTSTRAP, UEFI_TARGET, "uefi", progress)
}

/// The folder of the workspace that this harness was built from.
pub fn workspace_root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Adds a target without an operating system, if it is missing.
fn target(target: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), SetupError> {
    let sysroot = run(in_workspace("rustc").args(["--print", "sysroot"]))?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib");
    if libraries.is_dir() {
        return Ok(());
    }
    progress(Progress::Begun(&format!("installing the Rust target {target}")));
    let missing = |_| SetupError::Missing { tool: "the Rust target", command: format!("rustup target add {target}") };
    run(in_workspace("rustup").args(["target", "add", target])).map(drop).map_err(missing)
}

/// Builds a kernel and returns its path. Cargo decides whether anything is to be done.
fn build(
    package: &'static str,
    target: &str,
    profile: &str,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, SetupError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = in_workspace(cargo);
    command
        .args(["build", "--package", package, "--profile", profile, "--target", target])
        .arg("--message-format=json-render-diagnostics")
        .env("DEFMT_LOG", LOG_LEVEL)
        // It draws its bar only when the build takes more than half a second.
        .envs([("CARGO_TERM_PROGRESS_WHEN", "always"), ("CARGO_TERM_PROGRESS_WIDTH", "120")])
        // The bar is read, not shown.
        .env("CARGO_TERM_COLOR", "never")
        // They would replace the linker's flags in `.cargo/config.toml`.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let line = shown(&command);
    let what = || format!("cannot run `{line}`");
    let io = |error| SetupError::Io { what: what(), error };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(io)?;
    let mut stdout = child.stdout.take();
    // Both pipes are read at once: neither must fill.
    let messages = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.as_mut().map_or(Ok(0), |s| s.read_to_string(&mut text)).map(|_| text)
    });
    let said = child
        .stderr
        .take()
        .map(|stderr| follow(package, stderr, progress))
        .transpose()
        .map_err(io)?
        .unwrap_or_default();
    let status = child.wait().map_err(io)?;
    let messages = messages.join().unwrap_or_else(|_| Ok(String::new())).map_err(io)?;
    if !status.success() {
        return Err(SetupError::Failed { command: line, output: said.trim().to_owned() });
    }
    let failed = || SetupError::Failed { command: line.clone(), output: "cargo named no executable".into() };
    messages.lines().rev().find_map(|message| executable(message, package)).ok_or_else(failed)
}

/// Reads what cargo says of a build to its end; gives what is neither its bar nor the name of a crate.
fn follow(package: &str, mut stderr: impl Read, progress: &mut dyn FnMut(Progress<'_>)) -> std::io::Result<String> {
    let (mut said, mut total, mut line) = (String::new(), None, Vec::new());
    let mut buffer = [0; 4096];
    loop {
        let length = stderr.read(&mut buffer)?;
        for byte in buffer.get(..length).unwrap_or_default() {
            // The bar is drawn again behind a carriage return.
            if !matches!(byte, b'\r' | b'\n') {
                line.push(*byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            match (bar(&text), text.trim_start()) {
                (Some((done, all, what)), _) => {
                    if total.is_none() {
                        let what = match package {
                            HOBBY_OS => "the hobby OS",
                            BOOTSTRAP => "the UEFI bootstrap",
                            _ => "the node image",
                        };
                        progress(Progress::Begun(&format!("building {what}")));
                    }
                    total = Some(all);
                    progress(Progress::Built { done, all, what });
                }
                (None, text) if text.starts_with("Blocking ") => progress(Progress::Begun(text.trim_end())),
                (None, text) if text.starts_with("Compiling ") || text.starts_with("Finished ") => {}
                (None, _) => said = said + text.trim_end() + "\n",
            }
            line.clear();
        }
        if length == 0 {
            break;
        }
    }
    if let Some(all) = total {
        progress(Progress::Built { done: all, all, what: "" });
    }
    Ok(said)
}

/// Cargo's bar: crates that are through, of so many, and which are being compiled.
fn bar(line: &str) -> Option<(u32, u32, &str)> {
    let (count, what) = line.trim().strip_prefix("Building [")?.split_once("] ")?.1.split_once(": ")?;
    let (done, all) = count.trim().split_once('/')?;
    Some((done.parse().ok()?, all.parse().ok()?, what))
}

/// The executable that a line of cargo's messages names.
fn executable(message: &str, package: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let name = package.replace("quorate-", "");
    let target = message["target"]["name"].as_str()?;
    (target == package || target == name).then_some(())?;
    message["executable"].as_str().map(PathBuf::from)
}

/// Finds QEMU, or installs it where that is possible without asking.
fn qemu(progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, SetupError> {
    if let Some(found) = in_path(QEMU) {
        return Ok(found);
    }
    let is_debian = in_path("apt-get").is_some();
    if is_debian && rustix::process::geteuid().is_root() {
        progress(Progress::Begun("installing QEMU: apt-get install qemu-system-x86"));
        run(&mut apt_get(&["update", "-q"]))?;
        run(&mut apt_get(&["install", "-q", "-y", "--no-install-recommends", "qemu-system-x86"]))?;
        if let Some(found) = in_path(QEMU) {
            return Ok(found);
        }
    }
    Err(SetupError::Missing { tool: QEMU, command: install_command(|program| in_path(program).is_some()) })
}

pub(crate) fn apt_get(arguments: &[&str]) -> Command {
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

pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn in_workspace(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace_root());
    command
}

/// Runs a command and returns its output.
pub(crate) fn run(command: &mut Command) -> Result<String, SetupError> {
    let what = format!("cannot run `{}`", shown(command));
    let output = command.stdin(Stdio::null()).output().map_err(|error| SetupError::Io { what, error })?;
    let Output { status, stdout, stderr } = output;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let output = String::from_utf8_lossy(&stderr).trim().to_owned();
    Err(SetupError::Failed { command: shown(command), output })
}

pub(crate) fn shown(command: &Command) -> String {
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
    fn a_build_is_told_as_it_goes_on_and_its_errors_are_kept() {
        let said = "   Compiling a v1.0.0\n    Building [>     ] 0/12: a \r    Building [=>  ] 7/12: b, c(build.rs)   \r\
                    error: no such thing\n  --> x.rs:1\n    Building [===>] 11/12: d\r                 \r";
        let mut told = Vec::new();
        let rest =
            follow(NODE_IMAGE, said.as_bytes(), &mut |progress| told.push(format!("{progress:?}"))).expect("read");
        assert_eq!(rest.trim(), "error: no such thing\n  --> x.rs:1");
        assert_eq!(told.first().map(String::as_str), Some("Begun(\"building the node image\")"));
        assert_eq!(told.get(2).map(String::as_str), Some("Built { done: 7, all: 12, what: \"b, c(build.rs)\" }"));
        assert_eq!(told.last().map(String::as_str), Some("Built { done: 12, all: 12, what: \"\" }"));
        // Nothing to do: nothing is told.
        follow(NODE_IMAGE, "    Finished `node` profile\n".as_bytes(), &mut |progress| panic!("{progress:?}"))
            .expect("read");
    }

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let built = r#"{"reason":"compiler-artifact","target":{"name":"quorate-node-image"},"executable":"/t/x"}"#;
        assert_eq!(executable(built, NODE_IMAGE), Some("/t/x".into()));
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#, NODE_IMAGE), None);
        assert_eq!(executable(r#"{"target":{"name":"other"},"executable":"/t/x"}"#, NODE_IMAGE), None);
        assert_eq!(executable("not JSON", NODE_IMAGE), None);
    }

    #[test]
    fn the_workspace_is_where_the_crates_are() {
        assert!(workspace_root().join("qemu/launch/Cargo.toml").is_file());
    }
}
