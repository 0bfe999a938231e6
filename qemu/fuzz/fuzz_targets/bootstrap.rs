//! Any bytes as what the UEFI bootstrap and the kernel behind it read: a kernel's file, a slot's record (its checksum put right first), SMBIOS
//! structures, a console's device path, a handover.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_arch_x86_64::smbios;
use quorate_base::{ClusterId, NodeId};
use quorate_bootinfo::handover::{self, Handover};
use quorate_bootstrap::elf::{KernelFile, LOAD_END, LOAD_FIRST};
use quorate_bootstrap::firmware::has_uart;
use quorate_database::sealed::{Raw, reseal, seal};
use quorate_database::{InstalledKernel, KernelSlot};

const CLUSTER: ClusterId = ClusterId(*b"0123456789abcdef");

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, bytes) = input;
    match kind % 5 {
        0 => kernel(bytes),
        1 => slot(bytes),
        2 => {
            let _ = smbios::find_entry(bytes);
            let _ = smbios::uuid_in_table(bytes, (3, 0));
            let _ = smbios::oem_strings(bytes).count();
        }
        3 => {
            let _ = has_uart(bytes);
        }
        _ => hand_over(bytes),
    }
});

fn kernel(bytes: &[u8]) {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    file.extend(bytes);
    for file in [bytes, &file] {
        let Ok(kernel) = KernelFile::parse(file) else { continue };
        let span = kernel.span();
        assert!(LOAD_FIRST <= span.start && span.start < span.end && span.end <= LOAD_END);
        assert!(span.contains(&kernel.entry) && kernel.used_bytes <= file.len());
        // What is used of it is a kernel by itself, and the same.
        let used = KernelFile::parse(&file[..kernel.used_bytes]).expect("used bytes");
        assert_eq!((used.entry, used.version, used.segments()), (kernel.entry, kernel.version, kernel.segments()));
        if span.end - span.start <= 1 << 20 {
            assert!(kernel.load_into(&mut vec![0; (span.end - span.start) as usize]));
        }
    }
}

fn slot(bytes: &[u8]) {
    let Some(node) = NodeId::new(3) else { return };
    let mut raw: Raw = [0; 512];
    for (to, from) in raw[32..].iter_mut().zip(bytes) {
        *to = *from;
    }
    seal(&mut raw, CLUSTER, InstalledKernel::place(node, KernelSlot::B));
    reseal(&mut raw);
    if let Some(installed) = InstalledKernel::decode(&raw, CLUSTER, node, KernelSlot::B).good() {
        assert_eq!(installed.encode(CLUSTER, node, KernelSlot::B), raw);
    }
}

fn hand_over(bytes: &[u8]) {
    let mut block = b"QRHANDOV\x01\0\0\0".to_vec();
    block.extend(bytes);
    for block in [bytes, &block] {
        let Ok(found) = handover::decode(block) else { continue };
        let (Ok(memory), Ok(line)) = (&found.memory, &found.command_line) else { continue };
        let again = Handover { rsdp: found.rsdp, smbios: found.smbios, command_line: line.as_str(), memory };
        let mut out = vec![0; handover::BYTES_MAX];
        let length = again.encode(&mut out).expect("it was decoded from as many bytes");
        assert_eq!(handover::decode(&out[..length]).as_ref(), Ok(&found));
    }
}
