# UEFI entry: 64-bit mode on the firmware's tables, which map this code to itself; boot services are over, interrupts off;
# RDI = physical address of the handover, below 4 GiB. The bootstrap finds it by the note. Goes over to the tables of
# boot_tables.s and calls Rust on the guarded kernel stack.

.section .note.quorate, "a", @note
.balign 4
    .long 8, 8, 1                   # name bytes, description bytes, type: the 64-bit entry
    .asciz "Quorate"
    .quad uefi_start

.section .boot, "awx", @progbits
.code64
.globl uefi_start
uefi_start:
    cli
    cld
    mov esp, offset boot_stack_top
    fill_boot_tables

    mov ecx, 0xc0000080             # EFER
    rdmsr
    or  eax, 0x900                  # LME (is set), NXE
    wrmsr
    mov rax, cr0
    or  eax, 0x10000                # WP
    mov cr0, rax
    mov eax, offset boot_pml4
    mov cr3, rax
    mov eax, 0x20                   # PAE alone: the firmware's global pages are forgotten, too
    mov cr4, rax

    lgdt [boot_gdt_pointer]
    push 8
    mov eax, offset uefi_segments
    push rax
    retfq
uefi_segments:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    movabs rsp, offset {kernel_stack} + {kernel_stack_bytes}
    xor ebp, ebp                    # the back trace ends here
    movabs rax, offset {uefi_main}
    call rax
4:  cli
    hlt
    jmp 4b
.text
