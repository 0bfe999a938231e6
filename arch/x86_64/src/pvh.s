# PVH entry: 32-bit protected mode, paging off, EBX = physical address of hvm_start_info.
# (Xen x86/HVM direct boot ABI.) Switches to long mode on the tables of boot_tables.s and calls Rust on the guarded kernel stack.

.section .note.pvh, "a", @note
.balign 4
    .long 4, 4, 18                  # name bytes, description bytes, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_start

.section .boot, "awx", @progbits
.code32
.globl pvh_start
pvh_start:
    cld
    mov esp, offset boot_stack_top
    mov edi, ebx                    # first argument of pvh_main
    fill_boot_tables

    mov eax, cr4
    or  eax, 0x20                   # PAE
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080             # EFER
    rdmsr
    or  eax, 0x900                  # LME, NXE
    wrmsr
    mov eax, cr0
    or  eax, 0x80010000             # PG, WP
    mov cr0, eax

    lgdt [boot_gdt_pointer]
    push 8
    mov eax, offset long_mode       # "push offset" would be a 16-bit push here
    push eax
    retf

.code64
long_mode:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    mov edi, edi                    # clear the upper half
    movabs rsp, offset {kernel_stack} + {kernel_stack_bytes}
    xor ebp, ebp                    # the back trace ends here
    movabs rax, offset {pvh_main}
    call rax
3:  cli
    hlt
    jmp 3b
.text
