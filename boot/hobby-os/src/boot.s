# Multiboot (0.6.96 § 3.1) with addresses in the header, so that any ELF will do: 32-bit protected mode, EBX = its information.
# Maps 4 GiB to itself, the last one uncached for devices, and goes to long mode.
.section .multiboot, "a"
.balign 4
header: .long 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
    .long header, load_start, load_end, bss_end, start

.section .boot, "ax"
.code32
.globl start
start:
    cld
    mov esi, ebx
    mov edi, offset bss_start
    mov ecx, offset bss_end
    sub ecx, edi
    shr ecx, 2
    xor eax, eax
    rep stosd
    mov esp, offset stack_top
    mov dword ptr [pml4], offset pdpt + 3
    mov eax, offset pd + 3
1:  mov [pdpt + ecx * 8], eax
    add eax, 4096
    inc ecx; cmp ecx, 4; jne 1b
    xor ecx, ecx
2:  mov eax, ecx
    shl eax, 21
    or  eax, 0x83
    cmp ecx, 3 * 512; jb 3f; or eax, 0x18
3:  mov [pd + ecx * 8], eax
    inc ecx; cmp ecx, 4 * 512; jne 2b
    mov eax, cr4; or eax, 0x20; mov cr4, eax
    mov eax, offset pml4; mov cr3, eax
    mov ecx, 0xc0000080; rdmsr; or eax, 0x100; wrmsr
    mov eax, cr0; or eax, 0x80010000; mov cr0, eax
    lgdt [gdt_pointer]
    push 8; mov eax, offset long_mode; push eax; retf
.code64
long_mode:
    mov ax, 16
    mov ds, ax; mov es, ax; mov ss, ax
    mov edi, esi
    xor ebp, ebp
    call {main}

.globl on_tick                      # it ends a halt, and does nothing
on_tick:
    push rax; mov al, 0x20; out 0x20, al; pop rax; iretq

.balign 8
gdt: .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
gdt_pointer: .word 23
    .long gdt

.section .bss.boot, "aw", @nobits
.balign 4096
pml4: .skip 4096
pdpt: .skip 4096
pd:   .skip 4 * 4096
      .skip 2 * 1024 * 1024         # a takeover passes large tables by value
stack_top:
.text
