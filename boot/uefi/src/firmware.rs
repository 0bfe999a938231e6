//! The firmware's services: disks, memory, tables, the watchdog, the keyboard. All `unsafe` that is about them is here.

use core::ops::Range;
use core::ptr::NonNull;

use heapless::Vec;
use quorate_arch_x86_64::smbios::{self, ENTRY_BYTES};
use quorate_bootstrap::elf::PAGE_BYTES;
use quorate_bootstrap::machine::NICS_MAX;
use quorate_bootstrap::{Blocks, Machine, ReadFailed};
use uefi::boot::{self, AllocateType, OpenProtocolAttributes, OpenProtocolParams, ScopedProtocol, SearchType};
use uefi::mem::memory_map::MemoryType;
use uefi::proto::ProtocolPointer;
use uefi::proto::media::block::BlockIO;
use uefi::proto::network::snp::SimpleNetwork;
use uefi::runtime::{self, ResetType};
use uefi::table::cfg::ConfigTableEntry;
use uefi::{Guid, Handle, Status, guid, system};

/// Disks that are looked at.
const DISKS_MAX: usize = 64;
/// Bytes of memory in which a buffer is aligned for any disk.
const BOUNCE_BYTES: usize = 64 << 10;
/// Addresses that the entry code of a kernel reaches.
const REACHABLE: u64 = 4 << 30;

/// Firmware resets a machine whose boot application has not left it after five minutes: a refusal is to be read for longer.
pub fn stop_watchdog() {
    // Where it cannot be stopped the machine boots again after that time: no harm.
    let _ = boot::set_watchdog_timer(0, 0x1_0000, None);
}

/// Waits until somebody presses a key; for ever where there is no keyboard.
pub fn wait_for_key() {
    let key = system::with_stdin(|input| {
        // Keys from before are not meant.
        let _ = input.reset(false);
        input.wait_for_key_event().ok()
    });
    match key {
        Some(key) => drop(boot::wait_for_event(&[key])),
        None => loop {
            boot::stall(core::time::Duration::from_secs(1));
        },
    }
}

/// Resets the machine.
pub fn start_anew() -> ! {
    runtime::reset(ResetType::COLD, Status::SUCCESS, None)
}

/// Opens a protocol beside whoever else has it: the firmware's own drivers stay where they are.
fn open<P: ProtocolPointer + ?Sized>(handle: Handle) -> Option<ScopedProtocol<P>> {
    let params = OpenProtocolParams { handle, agent: boot::image_handle(), controller: None };
    // SAFETY: the firmware's drivers are not unloaded while this application runs, and it does not write through what it opens.
    unsafe { boot::open_protocol::<P>(params, OpenProtocolAttributes::GetProtocol) }.ok()
}

/// A disk.
pub struct Disk {
    io: ScopedProtocol<BlockIO>,
    bounce: Pages,
}

/// All disks as a whole: partitions and drives without a medium are left out.
pub fn disks() -> impl Iterator<Item = Disk> {
    let handles = boot::locate_handle_buffer(SearchType::from_proto::<BlockIO>());
    let handles: Vec<Handle, DISKS_MAX> = handles.iter().flat_map(|h| h.iter().copied()).take(DISKS_MAX).collect();
    handles.into_iter().filter_map(|handle| {
        let io = open::<BlockIO>(handle)?;
        let media = io.media();
        let whole = media.is_media_present() && !media.is_logical_partition();
        let bounce = if whole { Pages::anywhere(BOUNCE_BYTES as u64) } else { None };
        Some(Disk { io, bounce: bounce? })
    })
}

impl Blocks for Disk {
    fn block_bytes(&self) -> u32 {
        self.io.media().block_size()
    }

    fn blocks(&self) -> u64 {
        self.io.media().last_block().saturating_add(1)
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), ReadFailed> {
        let media = self.io.media();
        let (id, size, align) = (media.media_id(), media.block_size() as usize, media.io_align() as usize);
        if align <= 1 || (into.as_ptr() as usize).is_multiple_of(align) {
            return self.io.read_blocks(id, first, into).map_err(|_| ReadFailed);
        }
        let bounce = self.bounce.as_slice();
        let whole = bounce.len() / size.max(1) * size;
        let mut at = first;
        for part in into.chunks_mut(whole.max(size)) {
            let buffer = bounce.get_mut(..part.len()).ok_or(ReadFailed)?;
            self.io.read_blocks(id, at, buffer).map_err(|_| ReadFailed)?;
            part.copy_from_slice(buffer);
            at += (part.len() / size) as u64;
        }
        Ok(())
    }
}

/// Whole pages of memory of our own.
pub struct Pages {
    start: NonNull<u8>,
    bytes: usize,
    kept: bool,
}

impl Pages {
    /// Some, below 4 GiB.
    pub fn anywhere(bytes: u64) -> Option<Self> {
        Self::allocate(AllocateType::MaxAddress(REACHABLE - 1), MemoryType::LOADER_DATA, bytes)
    }

    /// Exactly these, to be executed; `None` if the firmware uses one of them.
    pub fn at(span: Range<u64>) -> Option<Self> {
        Self::allocate(AllocateType::Address(span.start), MemoryType::LOADER_CODE, span.end - span.start)
    }

    fn allocate(how: AllocateType, kind: MemoryType, bytes: u64) -> Option<Self> {
        let count = usize::try_from(bytes.div_ceil(PAGE_BYTES)).ok()?;
        let start = boot::allocate_pages(how, kind, count).ok()?;
        let bytes = count * PAGE_BYTES as usize;
        // SAFETY: the pages are ours, so nobody else has a reference; zeros make them bytes.
        unsafe { start.as_ptr().write_bytes(0, bytes) };
        Some(Self { start, bytes, kept: false })
    }

    /// The memory.
    pub fn as_slice(&mut self) -> &mut [u8] {
        // SAFETY: allocated for us, and every byte was set; the borrow of self makes it the only reference.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// The memory, for as long as the machine runs.
    pub fn into_slice(mut self) -> &'static mut [u8] {
        self.kept = true;
        // SAFETY: as above; it is never given back, and self is gone.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if !self.kept {
            // SAFETY: allocated with this many pages, and nobody has a reference: one would borrow self. If the firmware does not take
            // them back they stay unused.
            let _ = unsafe { boot::free_pages(self.start, self.bytes / PAGE_BYTES as usize) };
        }
    }
}

/// The address of the first of these tables that the firmware has.
fn table(wanted: [Guid; 2]) -> Option<u64> {
    system::with_config_table(|tables| {
        let address = |guid: &Guid| tables.iter().find(|table| table.guid == *guid).map(|table| table.address as u64);
        wanted.iter().find_map(address)
    })
}

/// The ACPI root pointer.
pub fn rsdp() -> Option<u64> {
    table([ConfigTableEntry::ACPI2_GUID, ConfigTableEntry::ACPI_GUID])
}

/// The SMBIOS entry point.
pub fn smbios_entry() -> Option<u64> {
    table([ConfigTableEntry::SMBIOS3_GUID, ConfigTableEntry::SMBIOS_GUID])
}

/// The SMBIOS structures, and their version.
pub fn smbios_table() -> Option<(&'static [u8], (u8, u8))> {
    let entry = peek(smbios_entry()?, ENTRY_BYTES);
    let found = smbios::find_entry(entry)?;
    Some((peek(found.physical, found.bytes as usize), found.version))
}

/// Bytes of a table of the firmware.
fn peek(physical: u64, bytes: usize) -> &'static [u8] {
    // SAFETY: the firmware named the place and the length; it maps memory to itself, and does not change its tables.
    unsafe { core::slice::from_raw_parts(physical as *const u8, bytes) }
}

/// This machine, as the firmware tells.
pub fn machine() -> Machine {
    let uuid = smbios_table().and_then(|(table, version)| smbios::uuid_in_table(table, version));
    Machine { uuid, macs: nic_addresses() }
}

/// Firmware that boots from a disk leaves its NICs alone: its drivers are told to take what is on PCI, so that a machine is known by
/// all that it is known by.
fn wake_nics() {
    const PCI_IO: Guid = guid!("4cf5b200-68b8-4ca5-9eec-b23e3f50029a");
    let Ok(devices) = boot::locate_handle_buffer(SearchType::ByProtocol(&PCI_IO)) else { return };
    for device in devices.iter() {
        // What has no driver stays without.
        let _ = boot::connect_controller(*device, &[], None, false);
    }
}

fn nic_addresses() -> Vec<[u8; 6], NICS_MAX> {
    const ETHERNET_BYTES: u32 = 6;
    wake_nics();
    let mut all = Vec::new();
    let Ok(handles) = boot::locate_handle_buffer(SearchType::from_proto::<SimpleNetwork>()) else { return all };
    for handle in handles.iter() {
        let Some(nic) = open::<SimpleNetwork>(*handle) else { continue };
        let mode = nic.mode();
        if mode.hw_address_size == ETHERNET_BYTES
            && let Some(mac) = mode.permanent_address.0.first_chunk::<6>()
            && !all.contains(mac)
            && all.push(*mac).is_err()
        {
            break;
        }
    }
    all
}
