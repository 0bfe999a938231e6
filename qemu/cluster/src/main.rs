//! `cargo cluster`: the harness's command.
//!
//! Exit status: 0 held, 1 an expectation or test failed, 2 could not run; then the last line says why and what to do.
#![forbid(unsafe_code)]

// First: its macros are for all that follows.
#[macro_use]
mod out;

mod agreement;
mod arguments;
mod ask;
mod commands;
mod console;
mod db;
mod end;
mod fuzz;
mod image;
mod model;
mod mutate;
mod play;
mod replay;
mod report;
mod screen;
mod sim;
mod test;
mod trace;
mod up;
mod view;
mod watch;
mod what_if;

use clap::Parser;
use clap::error::ErrorKind;

use arguments::{Arguments, Verb};
use end::End;

fn main() -> std::process::ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done if the terminal is gone.
            let _ = error.print();
            let wanted = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if wanted { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::from(2) };
        }
    };
    // What runs in this process alone ends at a signal as any program does; the others have machines or builds to end first.
    let alone = matches!(
        arguments.verb,
        Verb::Sim(_) | Verb::Model(_) | Verb::Db(_) | Verb::Image(_) | Verb::Check { .. } | Verb::Report(_)
    );
    if !alone && let Err(error) = quorate_launch::interrupt::install() {
        return End::CannotRun(format!("signals cannot be handled: {error}")).report();
    }
    let end = match arguments.verb {
        Verb::Up(options) => up::up(&options),
        Verb::Test(options) => test::test(&options),
        Verb::Run(options) => play::run(&options),
        Verb::Db(verb) => db::db(&verb),
        Verb::Image(verb) => image::image(&verb),
        Verb::Sim(options) => sim::sim(&options),
        Verb::Model(options) => model::model(&options),
        Verb::Mutate(options) => mutate::mutate(&options),
        Verb::Fuzz(options) => fuzz::fuzz(&options),
        Verb::Ask(options) => ask::ask(&options),
        Verb::Report(options) => report::report(&options),
        Verb::Check { traces } => trace::check(&traces),
        Verb::HostNode { id, disk, ports } => trace::host_node(id, &disk, &ports),
        Verb::Bench { names, json, short, disk, nic, no_qemu } => {
            trace::bench(&names, json.as_deref(), short, disk.map(|d| d.disk), nic.into(), no_qemu)
        }
    };
    end.report()
}
