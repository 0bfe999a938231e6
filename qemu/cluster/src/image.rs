//! `cargo cluster image`: kernels in disk images, and what a node boots.

use std::path::Path;

use quorate_base::NodeId;
use quorate_database::MachineId;
use quorate_image::kernels::{self, KernelError};
use quorate_image::{SlotState, parse_mac, parse_uuid};
use quorate_launch::node_image;
use serde_json::json;

use crate::arguments::{ImageVerb, Nodes};
use crate::end::End;
use crate::play::set_up;

/// Runs an `image` command.
pub fn image(verb: &ImageVerb) -> End {
    let outcome = match verb {
        ImageVerb::InstallKernel { image, node, slot, kernel, label, words, boot } => {
            install(image, *node, (*slot).into(), (kernel.as_deref(), label.as_deref(), words), *boot)
        }
        ImageVerb::Boot { image, node, slot } => nodes(image, *node).and_then(|nodes| {
            nodes.into_iter().try_for_each(|node| {
                kernels::choose(image, node, (*slot).into()).map_err(|e| said(image, &e))?;
                println!("node {node} boots {} from now on", quorate_database::BootChoice::from(*slot).name());
                Ok(())
            })
        }),
        ImageVerb::Machine { image, node, uuid, mac } => machine(image, *node, uuid.as_deref(), mac.as_deref()),
        ImageVerb::List { image, json } => match kernels::list(image) {
            Ok(slots) => {
                print!("{}", if *json { as_json(&slots) } else { as_text(&slots) });
                Ok(())
            }
            Err(error) => Err(said(image, &error)),
        },
    };
    outcome.map_or_else(End::CannotRun, |()| End::Held)
}

fn said(image: &Path, error: &KernelError) -> String {
    format!("{}: {error}", image.display())
}

fn install(
    image: &Path,
    node: Nodes,
    slot: quorate_database::KernelSlot,
    (kernel, label, words): (Option<&Path>, Option<&str>, &str),
    boot: bool,
) -> Result<(), String> {
    let path = match kernel {
        Some(kernel) => kernel.to_owned(),
        None => node_image(&mut set_up).map_err(|e| e.to_string())?,
    };
    let mut elf = std::fs::read(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    if let Some(label) = label {
        elf = kernels::relabelled(&elf, label).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    for node in nodes(image, node)? {
        let installed = kernels::install(image, node, slot, &elf, words).map_err(|e| said(image, &e))?;
        if boot {
            kernels::choose(image, node, quorate_database::BootChoice::of(slot)).map_err(|e| said(image, &e))?;
        }
        let then = if boot { ", which it boots from now on" } else { "" };
        println!(
            "node {node}: version {}, {} bytes, checksum {:08x} in slot {slot}{then}",
            installed.version, installed.bytes, installed.checksum
        );
    }
    Ok(())
}

fn nodes(image: &Path, node: Nodes) -> Result<Vec<NodeId>, String> {
    match node {
        Nodes::One(node) => Ok(vec![node]),
        Nodes::All => {
            let slots = kernels::list(image).map_err(|e| said(image, &e))?;
            let mut nodes: Vec<NodeId> = slots.into_iter().map(|s| s.node).collect();
            nodes.dedup();
            Ok(nodes)
        }
    }
}

fn machine(image: &Path, node: u8, uuid: Option<&str>, mac: Option<&str>) -> Result<(), String> {
    let node = NodeId::new(node).ok_or_else(|| format!("--node {node}: nodes are 0 to 63"))?;
    let wrong = |what: &str, text: &str| format!("{what} {text}: not one, as in {}", example(what));
    let uuid = uuid.map(|text| parse_uuid(text).ok_or_else(|| wrong("--uuid", text))).transpose()?;
    let mac = mac.map(|text| parse_mac(text).ok_or_else(|| wrong("--mac", text))).transpose()?;
    if uuid.is_none() && mac.is_none() {
        return Err("say by what the machine is known: --uuid, --mac or both".to_owned());
    }
    kernels::set_machine(image, node, MachineId { uuid, mac }).map_err(|e| said(image, &e))
}

fn example(what: &str) -> &'static str {
    if what == "--mac" { "52:54:00:12:34:56" } else { "00112233-4455-6677-8899-aabbccddeeff" }
}

fn as_text(slots: &[SlotState]) -> String {
    let mut text = format!(
        "{:<5} {:<5} {:<6} {:<20} {:>8} {:<9} state\n",
        "node", "slot", "boots", "version", "bytes", "checksum"
    );
    for s in slots {
        let (version, bytes, sum) = s.installed.as_ref().map_or_else(Default::default, |i| {
            (i.version.to_string(), i.bytes.to_string(), format!("{:08x}", i.checksum))
        });
        let state = s.bad.map_or_else(|| "good".to_owned(), |bad| bad.to_string());
        let boots = if s.chosen { "first" } else { "" };
        let node = s.node.to_string();
        text += &format!("{node:<5} {:<5} {boots:<6} {version:<20} {bytes:>8} {sum:<9} {state}", s.slot.letter());
        if let Some(words) = s.installed.as_ref().map(|i| &i.words).filter(|w| !w.is_empty()) {
            text += &format!("  ({words})");
        }
        text.push('\n');
    }
    text
}

fn as_json(slots: &[SlotState]) -> String {
    let list: Vec<_> = slots
        .iter()
        .map(|s| {
            let installed = s.installed.as_ref();
            json!({"node": s.node.get(), "slot": s.slot.letter(), "boots": s.chosen, "good": s.bad.is_none(),
                "why": s.bad.map(|b| b.to_string()), "version": installed.map(|i| i.version.as_str()),
                "bytes": installed.map(|i| i.bytes), "checksum": installed.map(|i| format!("{:08x}", i.checksum)),
                "words": installed.map(|i| i.words.as_str()), "installs": installed.map(|i| i.sequence)})
        })
        .collect();
    format!("{:#}\n", json!(list))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_image::{CreateOptions, bootable_bytes, create};

    #[test]
    fn slots_are_listed_and_what_is_wrong_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        let bootstrap = Some(vec![1; 10]);
        create(&path, &CreateOptions { bytes: bootable_bytes(3), bootstrap, ..CreateOptions::default() }).unwrap();
        let list = as_text(&kernels::list(&path).unwrap());
        assert_eq!(list.lines().count(), 7);
        assert!(list.contains("2     b"), "{list}");
        assert!(
            list.lines().nth(1).is_some_and(|l| l.starts_with("0     a     first") && l.ends_with("empty")),
            "{list}"
        );
        let verb = ImageVerb::Boot { image: path.clone(), node: Nodes::All, slot: crate::arguments::SlotOrNothing::B };
        assert_eq!(image(&verb), End::Held);
        assert!(kernels::list(&path).unwrap().iter().all(|s| s.chosen == (s.slot.letter() == "b")));
        let broken = machine(&path, 1, Some("xyz"), None).unwrap_err();
        assert!(broken.contains("--uuid xyz") && machine(&path, 1, None, None).unwrap_err().contains("--uuid, --mac"));
        assert_eq!(machine(&path, 1, None, Some("52:54:00:00:00:09")), Ok(()));
        assert!(machine(&path, 9, None, Some("52:54:00:00:00:09")).unwrap_err().contains("no node 9"));
        let no_kernel = ImageVerb::InstallKernel {
            image: path.clone(),
            node: Nodes::All,
            slot: crate::arguments::Slot::A,
            kernel: Some(path),
            label: None,
            words: String::new(),
            boot: false,
        };
        assert!(matches!(image(&no_kernel), End::CannotRun(why) if why.contains("not an ELF file")));
    }
}
