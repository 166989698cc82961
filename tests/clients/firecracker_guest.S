/*
 * The guest of firecracker.c, loaded at BASE, entered there in 64-bit mode or at firecracker_pvh in
 * protected mode without paging. It uses the timer, an application processor, a device that
 * answers by an interrupt, and memory above 4 GiB; counts until it is told to go on - by then in
 * another VM, from a snapshot - and resets the machine through the keyboard controller.
 *
 * R12 is the local APIC, R13 the I/O APIC, R14 the device.
 */
#include "firecracker_guest.h"

#define ADDRESS(label) (label - firecracker_guest + BASE)

#define LAPIC 0xfee00000
#define LAPIC_EOI 0xb0
#define LAPIC_SPURIOUS 0xf0
#define LAPIC_ICR_LOW 0x300
#define LAPIC_ICR_HIGH 0x310
#define ICR_INIT 0x4500
#define ICR_STARTUP 0x4600
#define IOAPIC 0xfec00000
#define IOAPIC_WINDOW 0x10
#define IOAPIC_MASKED 0x10000
#define IOAPIC_PIN(n) (0x10 + 2 * (n))
#define TIMER_VECTOR 0x20
#define DEVICE_VECTOR 0x35
#define TRAMPOLINE 0x10000

#define PRESENT_WRITE 0x3
#define PRESENT_WRITE_LARGE 0x83
#define PDPT 0xa000
#define PD_3GIB 0xc000
#define PD_4GIB 0xd000

	.section .rodata
	.globl	firecracker_guest, firecracker_guest_end, firecracker_pvh

	.code64
firecracker_guest:
	leaq	by_long_mode(%rip), %rbx
	cmpl	$ZERO_PAGE, %esi
	je	start
	jmp	fail

	.code32
firecracker_pvh:
	cmpl	$START_INFO_MAGIC, (%ebx)
	jne	.
	/* The first GiB one to one in large pages, as the 64-bit entry has it. */
	movl	$(PDPT | PRESENT_WRITE), 0x9000
	movl	$(0xb000 | PRESENT_WRITE), PDPT
	xorl	%ecx, %ecx
1:	movl	%ecx, %eax
	shll	$21, %eax
	orl	$PRESENT_WRITE_LARGE, %eax
	movl	%eax, 0xb000(, %ecx, 8)
	incl	%ecx
	cmpl	$512, %ecx
	jne	1b
	movl	$0x20, %eax			/* CR4.PAE */
	movl	%eax, %cr4
	movl	$0x9000, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx		/* EFER.LME */
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000000, %eax
	movl	%eax, %cr0
	movl	$0x8ff0, %esp
	lgdt	ADDRESS(gdt_pointer)
	ljmp	$0x08, $ADDRESS(pvh_long)

	.code64
pvh_long:
	leaq	by_pvh(%rip), %rbx
start:
	lgdt	gdt_pointer(%rip)
	pushq	$0x08
	leaq	reloaded(%rip), %rax
	pushq	%rax
	lretq
reloaded:
	call	print
	call	map_high
	lidt	idt_pointer(%rip)
	movl	$0x1ff, LAPIC_SPURIOUS(%r12)
	call	tick_three_times
	leaq	timer_ticks(%rip), %rbx
	call	print
	call	start_processor
	leaq	processor_starts(%rip), %rbx
	call	print

	cmpl	$DEVICE_MAGIC, (%r14)
	jne	fail
	movl	$0xf, DEVICE_STATUS(%r14)
	movl	$1, DEVICE_NOTIFY(%r14)		/* no eventfd is for this value */
	movl	$IOAPIC_PIN(DEVICE_GSI), (%r13)
	movl	$DEVICE_VECTOR, IOAPIC_WINDOW(%r13)
	call	talk_to_device
	movq	$HIGH, %rax
	movq	$HIGH_VALUE, %rcx
	movq	%rcx, (%rax)
	leaq	device_answers(%rip), %rbx
	call	print

	sti
1:	incq	COUNTER
	cmpl	$0, GO
	je	1b
	cli

	movq	$HIGH, %rax
	cmpq	%rcx, (%rax)
	jne	fail
	movl	$IOAPIC_PIN(0), (%r13)
	movl	$TIMER_VECTOR, IOAPIC_WINDOW(%r13)
	call	tick_three_times
	call	talk_to_device
	leaq	goes_on(%rip), %rbx
	call	print
	movb	$KEYBOARD_RESET, %al
	outb	%al, $KEYBOARD_PORT
	hlt

fail:	leaq	failed(%rip), %rbx
	call	print
	hlt

print:	movw	$SERIAL_PORT, %dx
1:	movb	(%rbx), %al
	testb	%al, %al
	jz	2f
	outb	%al, %dx
	incq	%rbx
	jmp	1b
2:	ret

/* The last GiB below 4 GiB, where the devices are, and the one above. */
map_high:
	movl	$0xc0000000, %eax
	movl	$PD_3GIB, %edi
1:	leaq	PRESENT_WRITE_LARGE(%rax), %rdx
	movq	%rdx, (%rdi)
	addq	$0x200000, %rax
	addq	$8, %rdi
	cmpq	$(PD_4GIB + 0x1000), %rdi
	jne	1b
	movq	$(PD_3GIB | PRESENT_WRITE), PDPT + 3 * 8
	movq	$(PD_4GIB | PRESENT_WRITE), PDPT + 4 * 8
	movl	$LAPIC, %r12d
	movl	$IOAPIC, %r13d
	movl	$DEVICE, %r14d
	ret

/* The 8254 at 100 Hz through pin 0, until three interrupts more have come. */
tick_three_times:
	movl	$IOAPIC_PIN(0), (%r13)
	movl	$TIMER_VECTOR, IOAPIC_WINDOW(%r13)
	movb	$0x34, %al
	outb	%al, $0x43
	movb	$(11932 & 0xff), %al
	outb	%al, $0x40
	movb	$(11932 >> 8), %al
	outb	%al, $0x40
	movl	TICKS, %ebp
	addl	$3, %ebp
1:	sti
	hlt
	cli
	cmpl	%ebp, TICKS
	jb	1b
	movl	$IOAPIC_PIN(0), (%r13)
	movl	$IOAPIC_MASKED, IOAPIC_WINDOW(%r13)
	ret

start_processor:
	leaq	trampoline(%rip), %rsi
	movl	$TRAMPOLINE, %edi
	movl	$(trampoline_end - trampoline), %ecx
	rep movsb
	movl	$(1 << 24), LAPIC_ICR_HIGH(%r12)
	movl	$ICR_INIT, LAPIC_ICR_LOW(%r12)
	movl	$(1 << 24), LAPIC_ICR_HIGH(%r12)
	movl	$(ICR_STARTUP | TRAMPOLINE >> 12), LAPIC_ICR_LOW(%r12)
1:	pause
	cmpl	$1, APS
	jne	1b
	ret

	.code16
trampoline:
	xorw	%ax, %ax
	movw	%ax, %ds
	lock incl APS
1:	cli
	hlt
	jmp	1b
trampoline_end:
	.code64

talk_to_device:
	movl	$ROUNDS, %ebp
1:	incl	REQUEST
	movl	INTERRUPTS, %edx
	movl	$0, DEVICE_NOTIFY(%r14)
2:	sti
	hlt
	cli
	cmpl	%edx, INTERRUPTS
	je	2b
	movl	REQUEST, %eax
	incl	%eax
	cmpl	%eax, REPLY
	jne	fail
	decl	%ebp
	jnz	1b
	ret

tick:	incl	TICKS
	movl	$0, LAPIC_EOI(%r12)
	iretq

interrupt:
	incl	INTERRUPTS
	movl	$0, LAPIC_EOI(%r12)
	iretq

by_long_mode:
	.asciz	"64-bit entry\n"
by_pvh:	.asciz	"PVH entry\n"
timer_ticks:
	.asciz	"the timer ticks\n"
processor_starts:
	.asciz	"a processor starts\n"
device_answers:
	.asciz	"the device answers\n"
goes_on:
	.asciz	"all goes on in another VM\n"
failed:	.asciz	"failed\n"

	.balign	8
gdt:	.quad	0
	.quad	0x00af9b000000ffff	/* 0x08: 64-bit code */
	.quad	0x00cf93000000ffff	/* 0x10: data */
gdt_pointer:
	.word	. - gdt - 1
	.quad	ADDRESS(gdt)

#define GATE(handler) \
	.word	handler - firecracker_guest, 0x08, 0x8e00, BASE >> 16; \
	.quad	0

	.balign	8
idt:	.fill	2 * TIMER_VECTOR, 8, 0
	GATE(tick)
	.fill	2 * (DEVICE_VECTOR - TIMER_VECTOR - 1), 8, 0
	GATE(interrupt)
idt_pointer:
	.word	. - idt - 1
	.quad	ADDRESS(idt)
firecracker_guest_end:

	.section .note.GNU-stack, "", @progbits
