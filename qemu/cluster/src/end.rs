//! How a command ends.

use std::process::ExitCode;

use quorate_launch::SetupError;
use quorate_scenario::Trouble;

/// The end of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Everything held.
    Held,
    /// An expectation or a test failed; the last line, if it is not printed yet.
    Failed(Option<String>),
    /// It could not be run: why, and what to do.
    CannotRun(String),
}

impl End {
    /// Prints the last line and gives the exit status.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Held => ExitCode::SUCCESS,
            Self::Failed(line) => {
                if let Some(line) = line {
                    println!("{line}");
                }
                ExitCode::from(1)
            }
            Self::CannotRun(why) => {
                eprintln!("{why}");
                ExitCode::from(2)
            }
        }
    }
}

impl From<SetupError> for End {
    fn from(error: SetupError) -> Self {
        Self::CannotRun(error.to_string())
    }
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Failed(why) => Self::Failed(Some(why)),
            Trouble::Broken(why) => Self::CannotRun(why),
            Trouble::Interrupted => Self::CannotRun("interrupted".to_owned()),
        }
    }
}
