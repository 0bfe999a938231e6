# PVH entry: 32-bit protected mode, paging off, EBX = physical address of hvm_start_info.
# (Xen x86/HVM direct boot ABI.) Builds tables that map the low 4 GiB to itself and the first GiB at KERNEL_OFFSET, switches to long mode and
# calls Rust on the guarded kernel stack. memory.rs replaces these tables; nothing of .boot is mapped afterwards.

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

    mov eax, offset boot_pdpt_low
    or  eax, 3                      # present, writable
    mov [boot_pml4], eax
    mov eax, offset boot_pdpt_high
    or  eax, 3
    mov [boot_pml4 + 511 * 8], eax
    mov eax, offset boot_pd
    or  eax, 3
    mov [boot_pdpt_high + 510 * 8], eax
    xor ecx, ecx
1:  mov [boot_pdpt_low + ecx * 8], eax
    add eax, 4096
    inc ecx
    cmp ecx, 4
    jne 1b
    xor ecx, ecx
2:  mov eax, ecx
    shl eax, 21
    or  eax, 0x83                   # present, writable, 2 MiB
    mov [boot_pd + ecx * 8], eax
    inc ecx
    cmp ecx, 4 * 512
    jne 2b

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

.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff        # 64-bit code
    .quad 0x00cf92000000ffff        # data
boot_gdt_pointer:
    .word 23
    .long boot_gdt

.section .boot.bss, "aw", @nobits
.balign 4096
boot_pml4:      .skip 4096
boot_pdpt_low:  .skip 4096
boot_pdpt_high: .skip 4096
boot_pd:        .skip 4 * 4096
    .skip 256
boot_stack_top:
.text
