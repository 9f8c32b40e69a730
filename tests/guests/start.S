// SPDX-License-Identifier: MIT
// From a guest's entry to its main, at the privilege of an application.
//
// Where KVM is software it interprets privileged code and leaves CPL 3 to the processor. So this
// does as little as it can in ring 0: page tables are data of the image, and what takes loops (the
// interrupt table) is filled in by the C part at CPL 3, which may write to everything: all pages,
// those of the hole below 4 GiB included, belong to the user. The TSS's bitmap gives it the ports;
// IOPL would as well, but some software KVM forgets it.
//
// Ways in: the PVH note (32-bit, EBX = hvm_start_info), the 64-bit entry (RSI = boot_params), and
// for further processors a page of real-mode code that cpu_start() copies below 1 MiB. All meet at
// `long_mode` with the processor's number in EDI.

#include "tests/guests/machine.h"

#define CR0_START 0x80050033u /* PG, AM, WP, NE, ET, MP, PE */
#define CR4_START 0x620u      /* PAE, OSFXSR, OSXMMEXCPT */
#define MSR_EFER 0xc0000080u
#define EFER_LME 0x100u

#ifndef GUEST_WITHOUT_PVH
	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start32
#endif

	.text
	.code32
	.globl start32
start32:
	cld
	movl %ebx, boot_pvh_info
	lgdt gdt_pointer
	xorl %edi, %edi
enter_long_mode:
	movl $CR4_START, %eax
	movl %eax, %cr4
	movl $page_tables, %eax
	movl %eax, %cr3
	movl $MSR_EFER, %ecx
	movl $EFER_LME, %eax
	xorl %edx, %edx
	wrmsr
	movl $CR0_START, %eax
	movl %eax, %cr0
	ljmpl $SEL_KERNEL_CODE, $long_mode

	.code64
	.globl start64
start64:
	cld
	movq %rsi, boot_linux_params
	lgdt gdt_pointer
	movl $page_tables, %eax
	movq %rax, %cr3
	movl $CR4_START, %eax
	movq %rax, %cr4
	movl $CR0_START, %eax
	movq %rax, %cr0
	xorl %edi, %edi
	movl $stacks + STACK_SIZE, %esp
	pushq $SEL_KERNEL_CODE
	pushq $long_mode
	lretq

long_mode:
	movl $SEL_KERNEL_DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	/* Two stacks a processor: the lower for ring 0, the higher for ring 3. */
	movl %edi, %ebx
	imull $2 * STACK_SIZE, %ebx, %esp
	addl $stacks + STACK_SIZE, %esp
	call cpu_init
	movl %ebx, %edi
	call guest_kernel
	movl $SEL_USER_DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	leaq STACK_SIZE(%rsp), %rcx
	movl %ebx, %edi
	pushq $SEL_USER_DATA
	pushq %rcx
	pushq $FLAGS_START
	pushq $SEL_USER_CODE
	pushq $user_entry
	iretq

/* As if called: the stack is 8 less than a multiple of 16. */
user_entry:
	pushq $0
	jmp cpu_main

/* What a guest wants done in ring 0 before anything else; its own replaces this one. */
	.weak guest_kernel
guest_kernel:
	ret

/* The first instructions of a further processor, copied to AP_CODE; CPUs come one after the other. */
	.code16
	.globl ap_code, ap_code_end
ap_code:
	cli
	cld
	lgdtl %cs:(ap_gdt_pointer - ap_code)
	movl $0x11, %eax
	movl %eax, %cr0
	ljmpl $SEL_KERNEL_CODE32, $ap_start32
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
ap_code_end:

	.code32
ap_start32:
	movl $SEL_KERNEL_DATA, %eax
	movl %eax, %ds
	movl %eax, %ss
	movl ap_number, %edi
	jmp enter_long_mode

/* ---- Interrupts and exceptions ---- */

	.code64
	.globl vectors, vectors_end
	.balign 16
vectors:
	.set n, 0
	.rept VECTORS
	.balign 16
	.if !((n == 8) || (n >= 10 && n <= 14) || (n == 17) || (n == 21) || (n == 29) || (n == 30))
	pushq $0
	.endif
	pushq $n
	jmp common_vector
	.set n, n + 1
	.endr

common_vector:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %rbx
	movq %rsp, %rdi
	movq %rsp, %rbx
	andq $-16, %rsp
	cld
	call vector_entry
	movq %rbx, %rsp
	popq %rbx
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

/* ---- Tables ---- */

	.data
	.balign 4096
	.globl page_tables
page_tables: /* identity, the first 4 GiB: PML4, PDPT, four page directories of 2 MiB pages */
	.quad page_tables + 4096 + 7
	.fill 511, 8, 0
	.set n, 0
	.rept 4
	.quad page_tables + (2 + n) * 4096 + 7
	.set n, n + 1
	.endr
	.fill 508, 8, 0
	.set n, 0
	.rept 4 * 512
	.quad n * 0x200000 + 0x87
	.set n, n + 1
	.endr

	.balign 16
	.globl gdt, gdt_tss
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff /* 32-bit code */
	.quad 0x00af9b000000ffff /* 64-bit code */
	.quad 0x00cf93000000ffff /* data */
	.quad 0x00cff3000000ffff /* data, user */
	.quad 0x00affb000000ffff /* 64-bit code, user */
gdt_tss:
	.fill 2 * CPUS_MAX, 8, 0
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt

	.globl boot_pvh_info, boot_linux_params, ap_number
boot_pvh_info:
	.quad 0
boot_linux_params:
	.quad 0
ap_number:
	.long 0

	.bss
	.balign 4096
	.globl stacks
stacks:
	.skip CPUS_MAX * 2 * STACK_SIZE
	.section .note.GNU-stack, "", @progbits
