/*
 * The guest of protected.c, loaded and entered at CODE in 32-bit protected mode. Loads its own GDT
 * and IDT; each handler reports and goes on at the address in EDI, which every provoker sets.
 */
#define CODE 0x1000
#define ADDRESS(label) (label - protected_guest + CODE)

/* Writes `length` bytes at `label` to port 0xe9. */
#define PRINT(label)                      \
	movl	$ADDRESS(label), %esi;    \
	movl	$(label##_end - label), %ecx; \
	movw	$0xe9, %dx;               \
	cld;                              \
	rep outsb

	.section .rodata
	.code32
	.globl	protected_guest, protected_guest_end
protected_guest:
	lgdtl	ADDRESS(gdt_pointer)
	lidtl	ADDRESS(idt_pointer)
	ljmpl	$0x08, $ADDRESS(reloaded)
reloaded:
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	PRINT(hello)

	movl	$ADDRESS(1f), %edi
	xorl	%ecx, %ecx
	divl	%ecx
1:	movl	$ADDRESS(2f), %edi
	ud2
2:	movl	$ADDRESS(3f), %edi
	movl	$0x30, %eax		/* beyond the limit of the GDT */
	movl	%eax, %fs
3:	PRINT(done)
	hlt

divide_error:
	PRINT(divide_error_text)
	jmp	resume
invalid_opcode:
	PRINT(invalid_opcode_text)
	jmp	resume
general_protection:
	PRINT(general_protection_text)
	popl	%eax
	outl	%eax, $0x21
resume:
	movl	%edi, (%esp)
	iretl

hello:			.ascii "protected mode\n"
hello_end:
divide_error_text:	.ascii "#DE handled\n"
divide_error_text_end:
invalid_opcode_text:	.ascii "#UD handled\n"
invalid_opcode_text_end:
general_protection_text: .ascii "#GP handled\n"
general_protection_text_end:
done:			.ascii "done\n"
done_end:

	.balign	8
gdt:	.quad	0
	.quad	0x00cf9b000000ffff	/* 0x08: flat code */
	.quad	0x00cf93000000ffff	/* 0x10: flat data */
gdt_pointer:
	.word	. - gdt - 1
	.long	ADDRESS(gdt)

	/* Interrupt gates; the handlers lie below 64 KiB, so the high half of the offset is 0. */
	.balign	8
idt:	.word	ADDRESS(divide_error), 0x08, 0x8e00, 0
	.fill	5, 8, 0
	.word	ADDRESS(invalid_opcode), 0x08, 0x8e00, 0
	.fill	6, 8, 0
	.word	ADDRESS(general_protection), 0x08, 0x8e00, 0
idt_pointer:
	.word	. - idt - 1
	.long	ADDRESS(idt)
protected_guest_end:

	.section .note.GNU-stack, "", @progbits
