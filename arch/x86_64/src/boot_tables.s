# What both entries stand on until memory.rs has built the final address space: page tables that map the low 4 GiB to itself and the
# first GiB at KERNEL_OFFSET, and segments. Nothing of .boot is mapped afterwards.

# Fills the page tables. The same instructions serve in 32-bit and in 64-bit code. Changes EAX and ECX.
.macro fill_boot_tables
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
.endm

.section .boot, "awx", @progbits
.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff        # 64-bit code
    .quad 0x00cf92000000ffff        # data
boot_gdt_pointer:
    .word 23
    .quad boot_gdt                  # 32-bit code reads half of it

.section .boot.bss, "aw", @nobits
.balign 4096
boot_pml4:      .skip 4096
boot_pdpt_low:  .skip 4096
boot_pdpt_high: .skip 4096
boot_pd:        .skip 4 * 4096
    .skip 256
boot_stack_top:
.text
