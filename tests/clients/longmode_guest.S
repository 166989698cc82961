/*
 * The guest of longmode.c, loaded and entered at CODE in 64-bit mode with interrupts off. Its #PF
 * handler reports CR2 and the error code, maps the page and returns to the faulting store.
 */
#define CODE 0x1000
#define ADDRESS(label) (label - longmode_guest + CODE)
#define FAULTING 0x40000128	/* the page that is not present */
#define ENTRY 0x14000		/* its page table entry */
#define FRAME 0x20000		/* what the handler maps there */
#define DEVICE 0x40001000

	.section .rodata
	.code64
	.globl	longmode_guest, longmode_guest_end
longmode_guest:
	lgdt	gdt_pointer(%rip)
	lidt	idt_pointer(%rip)
	pushq	$0x08
	leaq	reloaded(%rip), %rax
	pushq	%rax
	lretq
reloaded:
	movl	$FAULTING, %ebx
	movl	$0x600df00d, (%rbx)

	movl	FRAME + 0x128, %eax
	outl	%eax, $0x10
	movl	ENTRY, %eax
	andl	$0x60, %eax
	outl	%eax, $0x10

	movl	$DEVICE, %ebx
	movl	0x08(%rbx), %eax
	incl	%eax
	movl	%eax, 0x10(%rbx)
	movabsq	$0x1122334455667788, %rax
	movq	%rax, 0x18(%rbx)
	hlt

page_fault:
	movq	%cr2, %rax
	outl	%eax, $0x10
	popq	%rax
	outl	%eax, $0x10
	movq	$(FRAME | 3), ENTRY
	invlpg	FAULTING
	iretq

	.balign	8
gdt:	.quad	0
	.quad	0x00af9b000000ffff	/* 0x08: 64-bit code */
	.quad	0x00cf93000000ffff	/* 0x10: data */
gdt_pointer:
	.word	. - gdt - 1
	.quad	ADDRESS(gdt)

	/* Gate 14 alone; the handler lies below 64 KiB, so the higher parts of the offset are 0. */
	.balign	8
idt:	.fill	28, 8, 0
	.word	ADDRESS(page_fault), 0x08, 0x8e00, 0
	.quad	0
idt_pointer:
	.word	. - idt - 1
	.quad	ADDRESS(idt)
longmode_guest_end:

	.section .note.GNU-stack, "", @progbits
