//! `cargo cluster db`: databases in images, offline.

use quorate_base::Timing;
use quorate_image::{BlockSize, CreateOptions, Finding, Rekeyed, Severity, bootable_bytes};
use serde_json::json;

use crate::arguments::DbVerb;
use crate::end::End;
use crate::play::set_up;

/// Runs a `db` command.
pub fn db(verb: &DbVerb) -> End {
    let outcome = match verb {
        DbVerb::Create { .. } => create(verb),
        DbVerb::Dump { image, json } => match quorate_image::dump(image) {
            Ok(dump) if *json => {
                println!("{}", quorate_image::render_json(&dump));
                Ok(())
            }
            Ok(dump) => {
                print!("{}", quorate_image::render_text(&dump));
                Ok(())
            }
            Err(error) => Err(format!("{}: {error}", image.display())),
        },
        DbVerb::Rekey { image, force, json } => match quorate_image::rekey(image, *force) {
            Ok(done) => {
                print!("{}", rekeyed(&done, *json));
                Ok(())
            }
            Err(error) => Err(format!("{}: {error}", image.display())),
        },
        DbVerb::Check { image, repair, json } => match quorate_image::check(image, *repair) {
            Ok(findings) => {
                // A database that cannot be dumped has its findings.
                if !*json && let Ok(dump) = quorate_image::dump(image) {
                    println!("{}", dump.fence_line());
                }
                return checked(&findings, *json, &image.display().to_string());
            }
            Err(error) => Err(format!("{}: {error}", image.display())),
        },
    };
    outcome.map_or_else(End::CannotRun, |()| End::Held)
}

fn create(verb: &DbVerb) -> Result<(), String> {
    let DbVerb::Create { image, nodes, name, profile, timing, block_size, fence, force, json, .. } = verb else {
        return Ok(());
    };
    let DbVerb::Create { preempted, registrants, no_esp, .. } = verb else { return Ok(()) };
    let bootstrap = if *no_esp { None } else { Some(bootstrap()?) };
    let bad_size = || format!("--block-size is {block_size}, it must be 512 or 4096");
    let options = CreateOptions {
        nodes: *nodes,
        name: name.clone(),
        timing: time_outs(profile, timing)?,
        block_size: BlockSize::from_bytes(*block_size).ok_or_else(bad_size)?,
        fence: (*fence).into(),
        preempted: (*preempted).into(),
        registrants: (*registrants).into(),
        overwrite: *force,
        bytes: if bootstrap.is_some() { bootable_bytes(*nodes) } else { CreateOptions::default().bytes },
        bootstrap,
        ..CreateOptions::default()
    };
    let made = quorate_image::create(image, &options).map_err(|e| e.to_string())?;
    let boots = !*no_esp;
    if *json {
        let summary = json!({"cluster": made.cluster.to_string(), "name": made.name, "nodes": made.nodes,
            "bytes": made.bytes, "block_size": made.block_size, "database_at": made.database_at, "bootstrap": boots});
        println!("{summary:#}");
    } else {
        println!(
            "{}: cluster {} ({}), {} nodes, {} bytes in blocks of {}, database at byte {}",
            image.display(),
            made.name,
            made.cluster,
            made.nodes,
            made.bytes,
            made.block_size,
            made.database_at
        );
        if boots {
            println!(
                "machines boot from it once their node has a kernel: cargo cluster image install-kernel --node all --slot a {}",
                image.display()
            );
        }
    }
    Ok(())
}

/// The UEFI bootstrap, built if need be.
fn bootstrap() -> Result<Vec<u8>, String> {
    let path =
        quorate_launch::bootstrap(&mut set_up).map_err(|e| format!("{e}\nor give --no-esp for the database alone"))?;
    std::fs::read(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// What became of the key, in words or as JSON. Never the key.
fn rekeyed(done: &Rekeyed, json: bool) -> String {
    let Rekeyed { generation, epoch, before, now } = done;
    if json {
        let summary = json!({"generation": generation, "key_epoch": epoch, "key_fingerprint": format!("{now:016x}"),
            "key_fingerprint_before": format!("{before:016x}")});
        return format!("{summary:#}\n");
    }
    format!(
        "new cluster key, epoch {epoch}, fingerprint {now:016x} (before: {before:016x}), superblock generation {generation}\n\
         a node that still runs keeps the old key until it boots, and is not heard by those with the new one\n"
    )
}

/// A profile with single values replaced.
fn time_outs(profile: &str, changes: &[String]) -> Result<Timing, String> {
    let mut timing =
        Timing::profile(profile).ok_or_else(|| format!("--profile is `{profile}`, it must be default or fast"))?;
    for change in changes {
        let (key, ms) = change.split_once('=').ok_or_else(|| format!("--timing {change}: write KEY=MS"))?;
        let ms = ms.parse().map_err(|_| format!("--timing {change}: `{ms}` is no number of ms"))?;
        let field = match key {
            "net_heartbeat" => &mut timing.net_heartbeat,
            "net_suspect" => &mut timing.net_suspect,
            "disk_heartbeat" => &mut timing.disk_heartbeat,
            "disk_suspect" => &mut timing.disk_suspect,
            "io_max" => &mut timing.io_max,
            "lease" => &mut timing.lease,
            "dead" => &mut timing.dead,
            "outage_grace" => &mut timing.outage_grace,
            _ => {
                let known = timing.entries().map(|(name, _)| name).join(", ");
                return Err(format!("--timing {change}: `{key}` is none of {known}"));
            }
        };
        *field = ms;
    }
    timing.check().map_err(|e| e.to_string())?;
    Ok(timing)
}

/// Prints findings; those that are errors and not repaired fail the check.
fn checked(findings: &[Finding], json: bool, image: &str) -> End {
    if json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| {
                json!({"severity": if f.severity == Severity::Error { "error" } else { "warning" }, "what": f.what,
                    "place": f.place, "problem": f.problem, "advice": f.advice, "repaired": f.repaired})
            })
            .collect();
        println!("{:#}", json!(list));
    } else {
        print!("{}", quorate_image::render_findings(findings));
    }
    let left = findings.iter().filter(|f| f.severity == Severity::Error && f.repaired.is_none()).count();
    match left {
        0 => End::Held,
        // With --json stdout stays JSON.
        _ if json => End::Failed(None),
        n => End::Failed(Some(format!("{image}: {n} errors are left"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Fence, Preempted, Registrants};

    #[test]
    fn time_outs_are_a_profile_and_changes() {
        let timing = time_outs("fast", &["dead=300".into(), "outage_grace=5".into()]).unwrap();
        assert_eq!(timing, Timing { dead: 300, outage_grace: 5, ..Timing::FAST });
        for (profile, change, want) in [
            ("slow", "dead=1", "it must be default or fast"),
            ("fast", "dead", "write KEY=MS"),
            ("fast", "dead=x", "no number of ms"),
            ("fast", "ded=1", "none of net_heartbeat"),
            ("fast", "dead=100", "lease * 1.01"),
        ] {
            let error = time_outs(profile, &[change.into()]).unwrap_err();
            assert!(error.contains(want), "{change}: {error}");
        }
    }

    #[test]
    fn an_image_is_made_dumped_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("disk.img");
        let create = |force| DbVerb::Create {
            image: image.clone(),
            nodes: 2,
            name: "mine".into(),
            profile: "default".into(),
            timing: vec![],
            block_size: 4096,
            no_esp: true,
            fence: Fence::Reservation,
            preempted: Preempted::Ends,
            registrants: Registrants::Only,
            force,
            json: true,
        };
        assert_eq!(db(&create(false)), End::Held);
        assert!(matches!(db(&create(false)), End::CannotRun(why) if why.contains("exists already")));
        assert_eq!(db(&create(true)), End::Held);
        assert_eq!(db(&DbVerb::Dump { image: image.clone(), json: true }), End::Held);
        let rekey = |force| db(&DbVerb::Rekey { image: image.clone(), force, json: true });
        assert_eq!(rekey(false), End::Held);
        let check = |repair| db(&DbVerb::Check { image: image.clone(), repair, json: true });
        assert_eq!(check(false), End::Held);
        // Both partition tables gone: nothing to verify, and that is an error with a reason.
        std::fs::write(&image, vec![0; 1 << 20]).unwrap();
        assert_ne!(check(false), End::Held);
        assert!(matches!(db(&DbVerb::Dump { image: dir.path().into(), json: false }), End::CannotRun(_)));
    }
}
