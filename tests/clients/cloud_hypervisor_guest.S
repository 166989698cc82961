/*
 * The guest of cloud_hypervisor.c, loaded at BASE and entered there as PVH has it: protected mode
 * without paging, EBX at the start info. There is no PIC and no PIT, and its local APIC is in
 * x2APIC mode already. It says at DEBUG_PORT what comes next, so that the VMM can do its part.
 */
#include "cloud_hypervisor_guest.h"

#define ADDRESS(label) (label - cloud_hypervisor_guest + BASE)

#define X2APIC_EOI 0x80b
#define X2APIC_SPURIOUS 0x80f
#define X2APIC_LVT_TIMER 0x832
#define TSC_DEADLINE_MODE 0x40000
#define IA32_TSC_DEADLINE 0x6e0
#define DEADLINE_TICKS 1000000

	.section .rodata
	.globl	cloud_hypervisor_guest, cloud_hypervisor_guest_end
	.code32

cloud_hypervisor_guest:
	cmpl	$START_INFO_MAGIC, (%ebx)
	jne	fail
	movl	$0x8ff0, %esp
	lgdt	ADDRESS(gdt_pointer)
	ljmp	$0x08, $ADDRESS(reloaded)
reloaded:
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	lidt	ADDRESS(idt_pointer)
	movl	$X2APIC_SPURIOUS, %ecx
	movl	$0x1ff, %eax
	xorl	%edx, %edx
	wrmsr

	call	wait_for_deadline
	cmpl	$0, IOAPIC			/* the VMM's own */
	jne	fail
	movb	$STEP_DEVICE, %al
	outb	%al, $DEBUG_PORT
	call	talk_to_device

	movb	$STEP_SIGNAL, %al
	outb	%al, $DEBUG_PORT
	movl	$SIGNALLED, %ebx
	call	wait_for_interrupt
	movb	$STEP_LEVEL, %al
	outb	%al, $DEBUG_PORT
	movl	$LEVELS, %ebx
	call	wait_for_interrupt
	movb	$STEP_NMI, %al
	outb	%al, $DEBUG_PORT
1:	pause
	cmpl	$1, NMIS
	jne	1b

	cmpl	$ROM_VALUE, ROM
	jne	fail
	movl	$1, ROM				/* leaves the guest as MMIO */
	cmpl	$ROM_VALUE, ROM
	jne	fail
	movb	$STEP_PLUG, %al
	outb	%al, $DEBUG_PORT
	movl	$PLUGGED_VALUE, PLUGGED
	movq	ADDRESS(matching), %mm0
	movq	%mm0, DEVICE + DEVICE_NOTIFY_64
	movq	ADDRESS(other), %mm0		/* no eventfd is for this value */
	movq	%mm0, DEVICE + DEVICE_NOTIFY_64

	sti
1:	incl	COUNTER
	cmpl	$0, GO
	je	1b
	cli
	cmpl	$PLUGGED_VALUE, PLUGGED
	jne	fail
	call	wait_for_deadline
	call	talk_to_device
	xorb	%al, %al
	movw	$RESET_PORT, %dx
	outb	%al, %dx
fail:	movb	$0xff, %al
	outb	%al, $DEBUG_PORT
1:	hlt
	jmp	1b

/* The timer of the local APIC, a moment from now. */
wait_for_deadline:
	movl	$X2APIC_LVT_TIMER, %ecx
	movl	$(TSC_DEADLINE_MODE | TIMER_VECTOR), %eax
	xorl	%edx, %edx
	wrmsr
	rdtsc
	addl	$DEADLINE_TICKS, %eax
	adcl	$0, %edx
	movl	$IA32_TSC_DEADLINE, %ecx
	wrmsr
	movl	$DEADLINES, %ebx
	/* falls through */

/* Halts until the word at EBX has changed. */
wait_for_interrupt:
	movl	(%ebx), %eax
1:	sti
	hlt
	cli
	cmpl	%eax, (%ebx)
	je	1b
	ret

/* Each way to ring, in turn. */
talk_to_device:
	movl	$ROUNDS, %ebp
1:	incl	REQUEST
	movl	INTERRUPTS, %edi
	movl	%ebp, %eax
	andl	$1, %eax
	jz	2f
	movw	%ax, DEVICE + DEVICE_NOTIFY_ANY
	jmp	3f
2:	movl	$NOTIFY_32_VALUE, DEVICE + DEVICE_NOTIFY_32
3:	sti
	hlt
	cli
	cmpl	%edi, INTERRUPTS
	je	3b
	movl	REQUEST, %eax
	incl	%eax
	cmpl	%eax, REPLY
	jne	fail
	decl	%ebp
	jnz	1b
	ret

#define HANDLER(name, word) \
name:	incl	word; \
	jmp	end_of_interrupt

HANDLER(msi, INTERRUPTS)
HANDLER(second_msi, INTERRUPTS)
HANDLER(signalled, SIGNALLED)
HANDLER(timer, DEADLINES)

level:	incl	LEVELS
	movl	$0, DEVICE + DEVICE_LINE
end_of_interrupt:
	pushal
	movl	$X2APIC_EOI, %ecx
	xorl	%eax, %eax
	xorl	%edx, %edx
	wrmsr
	popal
	iretl

nmi:	incl	NMIS
	iretl

	.balign	8
matching:
	.quad	NOTIFY_64_VALUE
other:	.quad	NOTIFY_64_OTHER
gdt:	.quad	0
	.quad	0x00cf9b000000ffff	/* 0x08: code */
	.quad	0x00cf93000000ffff	/* 0x10: data */
gdt_pointer:
	.word	. - gdt - 1
	.long	ADDRESS(gdt)

#define GATE(handler) .word handler - cloud_hypervisor_guest, 0x08, 0x8e00, BASE >> 16

	.balign	8
idt:	.fill	2, 8, 0
	GATE(nmi)
	.fill	MSI_VECTOR - 3, 8, 0
	GATE(msi)
	GATE(second_msi)
	GATE(signalled)
	GATE(level)
	GATE(timer)
idt_pointer:
	.word	. - idt - 1
	.long	ADDRESS(idt)
cloud_hypervisor_guest_end:

	.section .note.GNU-stack, "", @progbits
