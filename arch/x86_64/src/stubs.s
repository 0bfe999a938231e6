# One 16-byte stub per interrupt vector. Each brings the stack to the same form (error code, vector) and goes on to interrupt_common, which saves
# the general registers as `Frame` (src/frame.rs) and calls `dispatch`. The kernel uses no vector registers, so none are saved.

.section .text.interrupt_stubs, "ax", @progbits
.balign 16
.globl interrupt_stubs
interrupt_stubs:
.set vector, 0
.rept 256
    .balign 16
    # Exceptions 8, 10-14, 17, 21, 29 and 30 push an error code themselves.
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
    push 0
    .endif
    .byte 0x6a, vector              # push the vector, sign-extended: dispatch masks it
    jmp interrupt_common
    .set vector, vector + 1
.endr

.balign 16
interrupt_common:
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    call {dispatch}
    mov rsp, rbp
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16
    iretq
.text
