//! Dependencies point one way (DESIGN 1, STYLE "The map"): `qemu` and `boot` → `arch`, `drivers`, `kernel`; drivers and
//! kernel never know each other; inside the kernel along the order of the levels.

/// A package of the workspace by its folder, with the folders of those that it depends on (tests and builds included).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Package {
    /// From the top of the tree, with `/`.
    pub folder: String,
    /// Folders of other packages of the workspace.
    pub uses: Vec<String>,
}

/// What a kernel crate may use.
const KERNEL: [(&str, &[&str]); 8] = [
    ("kernel/base", &[]),
    ("kernel/database", &["kernel/base"]),
    ("kernel/master-lock", &["kernel/base", "kernel/database"]),
    ("kernel/interconnect", &["kernel/base"]),
    ("kernel/membership", &["kernel/base", "kernel/database", "kernel/master-lock", "kernel/interconnect"]),
    ("kernel/groups", &["kernel/base", "kernel/database", "kernel/interconnect", "kernel/membership"]),
    ("kernel/epitaph", &["kernel/base"]),
    (
        "kernel/node",
        &[
            "kernel/base",
            "kernel/database",
            "kernel/master-lock",
            "kernel/interconnect",
            "kernel/membership",
            "kernel/groups",
            "kernel/epitaph",
        ],
    ),
];

/// What both loaders hand to the kernel: plain data, which the entry code of `arch` fills in.
const BOOT_INFO: &str = "boot/bootinfo";

/// What the UEFI bootstrap decides: pure, so that host tests reach it, and no hardware in it.
const BOOTSTRAP: &str = "boot/bootstrap";

/// Crates that stand apart from everything else: the checker must not use the code it checks.
const APART: [&str; 2] = ["qemu/check", "qemu/tidy"];

fn allowed(from: &str, to: &str) -> Result<(), String> {
    let top = |folder: &str| folder.split('/').next().unwrap_or_default().to_owned();
    let fine = match top(from).as_str() {
        "kernel" => {
            let Some((_, uses)) = KERNEL.iter().find(|(folder, _)| *folder == from) else {
                return Err(format!("{from}: not in tidy's order of the kernel's crates"));
            };
            uses.contains(&to)
        }
        "drivers" => top(to) == "drivers",
        "arch" => top(to) == "arch" || to == BOOT_INFO,
        "boot" if from == BOOT_INFO => false,
        "boot" if from == BOOTSTRAP => to == BOOT_INFO || top(to) == "kernel",
        "boot" => matches!(top(to).as_str(), "boot" | "arch" | "drivers" | "kernel"),
        "qemu" => !APART.contains(&from) && to != "qemu/tidy",
        _ => false,
    };
    if fine { Ok(()) } else { Err(format!("{from} must not depend on {to}")) }
}

/// Each package depends only on what stands below it.
pub fn directions(packages: &[Package]) -> Vec<String> {
    let edges = packages.iter().flat_map(|p| p.uses.iter().map(|to| (p.folder.as_str(), to.as_str())));
    edges.filter_map(|(from, to)| allowed(from, to).err()).collect()
}

/// Reads the answer of `cargo metadata --no-deps`.
///
/// # Errors
/// What is missing in it.
pub fn from_metadata(metadata: &serde_json::Value) -> Result<Vec<Package>, String> {
    let root = metadata["workspace_root"].as_str().ok_or("no workspace root")?;
    let folder = |path: &str| {
        let path = path.strip_prefix(root).unwrap_or(path).replace('\\', "/");
        path.trim_start_matches('/').trim_end_matches("/Cargo.toml").to_owned()
    };
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let read = |p: &serde_json::Value| {
        let manifest = p["manifest_path"].as_str().ok_or("a package without a path")?;
        let uses = p["dependencies"].as_array().ok_or("a package without dependencies")?;
        let uses = uses.iter().filter_map(|d| d["path"].as_str()).map(folder).collect();
        Ok(Package { folder: folder(manifest), uses })
    };
    packages.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn design_1_directions() {
        let fine = [
            ("kernel/master-lock", "kernel/database"),
            ("drivers/virtio-scsi", "drivers/scsi"),
            ("boot/node-image", "kernel/node"),
            ("qemu/sim", "qemu/check"),
            ("arch/x86_64", "boot/bootinfo"),
            ("boot/uefi", "boot/bootstrap"),
            ("boot/bootstrap", "kernel/database"),
            ("qemu/image", "boot/bootstrap"),
        ];
        for (from, to) in fine {
            assert_eq!(allowed(from, to), Ok(()), "{from} {to}");
        }
        let wrong = [
            ("kernel/base", "kernel/database"),
            ("kernel/interconnect", "kernel/master-lock"),
            ("kernel/node", "drivers/scsi"),
            ("kernel/unheard-of", "kernel/base"),
            ("drivers/scsi", "kernel/base"),
            ("drivers/scsi", "boot/bootinfo"),
            ("arch/x86_64", "qemu/trace"),
            ("arch/x86_64", "boot/node-image"),
            ("boot/bootinfo", "kernel/base"),
            ("boot/bootstrap", "arch/x86_64"),
            ("boot/bootstrap", "boot/uefi"),
            ("kernel/database", "boot/bootstrap"),
            ("boot/node-image", "qemu/trace"),
            ("qemu/check", "kernel/base"),
        ];
        for (from, to) in wrong {
            assert!(allowed(from, to).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn metadata_is_read() {
        let metadata = json!({"workspace_root": "/w", "packages": [{"manifest_path": "/w/kernel/base/Cargo.toml",
            "dependencies": [{"name": "serde"}, {"name": "a", "path": "/w/drivers/scsi"}]}]});
        let packages = from_metadata(&metadata).unwrap();
        assert_eq!(packages, [Package { folder: "kernel/base".into(), uses: vec!["drivers/scsi".into()] }]);
        assert_eq!(directions(&packages).len(), 1);
        assert!(from_metadata(&json!({})).is_err());
    }
}
