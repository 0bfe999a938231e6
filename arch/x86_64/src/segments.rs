//! Segments and the task state segment: what long mode needs of them, and the stacks exceptions switch to.

use crate::stack;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

/// Places in the interrupt stack table.
pub const IST_DOUBLE_FAULT: u16 = 0;
/// For non-maskable interrupts.
pub const IST_NMI: u16 = 1;
/// For page faults.
pub const IST_PAGE_FAULT: u16 = 2;
/// For machine checks.
pub const IST_MACHINE_CHECK: u16 = 3;

static TSS: Once<TaskStateSegment> = Once::new();
static GDT: Once<GlobalDescriptorTable> = Once::new();

/// Loads both.
pub(crate) fn init() {
    let tss = TSS.call_once(|| {
        let mut tss = TaskStateSegment::new();
        let stacks = [
            (IST_DOUBLE_FAULT, stack::DOUBLE_FAULT.range("")),
            (IST_NMI, stack::NMI.range("")),
            (IST_PAGE_FAULT, stack::PAGE_FAULT.range("")),
            (IST_MACHINE_CHECK, stack::MACHINE_CHECK.range("")),
        ];
        for (place, stack) in stacks {
            tss.interrupt_stack_table[usize::from(place)] = VirtAddr::new(stack.top);
        }
        tss
    });
    let mut gdt = GlobalDescriptorTable::new();
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    GDT.call_once(|| gdt).load();
    // SAFETY: the selectors belong to the table just loaded, which lives for ever, as does the task state segment it names.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(task);
    }
}
