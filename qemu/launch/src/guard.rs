//! The guard: a small process beside the harness that outlives it by a moment.
//!
//! It reads the harness's children from a pipe. When the pipe closes, because the harness ended in an orderly way, was
//! killed, or crashed, it ends the children that are still on its list and removes the run's directory. It is a shell,
//! so that it needs no code of the harness, and stands in a process group of its own, so that Ctrl-C does not reach it.
//!
//! A machine between its start and its entry in the list is no gap: QEMU connects to the harness's sockets while it
//! starts and ends by itself when nobody answers there.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
children=' '
while read -r verb child; do
    case "$verb" in
        add) children="$children$child " ;;
        # One that is not on the list (any more) would double it.
        del) case "$children" in
            *" $child "*) children="${children%% $child *} ${children#* $child }" ;;
        esac ;;
    esac
done
for child in $children; do kill -KILL "$child" 2>/dev/null; done
rm -rf -- "$1"
"#;

/// A running guard. Dropping it makes it do its work and waits for that.
#[derive(Debug)]
pub struct Guard {
    process: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Guard {
    /// Starts a guard over `run_dir`.
    ///
    /// # Errors
    /// If the shell cannot be started.
    pub fn start(run_dir: &Path) -> io::Result<Self> {
        let mut process = Command::new("sh")
            .args(["-c", SCRIPT, "quorate-guard"])
            .arg(run_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = Mutex::new(process.stdin.take());
        Ok(Self { process, pipe })
    }

    /// Puts a child under guard.
    pub fn add(&self, pid: u32) {
        self.say("add", pid);
    }

    /// Takes a child off the list. To be called before it is reaped: afterwards its number may be another's.
    pub fn remove(&self, pid: u32) {
        self.say("del", pid);
    }

    fn say(&self, verb: &str, pid: u32) {
        if let Some(pipe) = self.pipe.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // If the guard is gone, the harness's own clean-up is what is left.
            let _ = pipe.write_all(format!("{verb} {pid}\n").as_bytes());
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("1000").spawn().expect("sleep")
    }

    #[test]
    fn when_the_pipe_closes_children_end_and_the_directory_goes() {
        let dir = crate::run_dir::make().expect("directory");
        std::fs::write(dir.join("socket"), "").expect("file");
        let guard = Guard::start(&dir).expect("guard");
        let (mut kept, mut listed, mut removed) = (sleeper(), sleeper(), sleeper());
        guard.add(listed.id());
        guard.add(removed.id());
        guard.add(kept.id());
        // Again and again, as in a long run whose machines are killed and reaped in two places.
        (0..200).for_each(|_| guard.remove(removed.id()));
        drop(guard);
        assert!(!dir.exists());
        for child in [&mut kept, &mut listed] {
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().expect("ended")), Some(9));
        }
        assert!(removed.try_wait().expect("status").is_none(), "it was off the list");
        removed.kill().expect("kill");
        removed.wait().expect("ended");
    }
}
