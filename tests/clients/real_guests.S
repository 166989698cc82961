/* Real-mode guests of threads.c, signal.c and foreign_writer.c, loaded at 0 (see guest.h). */
	.section .rodata
	.code16

/* BX times: adds 1 to the word at SI and writes it to port 0x10. */
	.globl	count_guest, count_guest_end
count_guest:
1:	incw	(%si)
	movw	(%si), %ax
	outw	%ax, $0x10
	decw	%bx
	jnz	1b
	hlt
count_guest_end:

/* Counts at SPIN_COUNTER without ever leaving, until the byte at SPIN_STOP is not 0. */
	.globl	spin_guest, spin_guest_end
spin_guest:
1:	incl	0x800
	cmpb	$0, 0x804
	je	1b
	hlt
spin_guest_end:

/* Copies MAILBOX_REQUEST to MAILBOX_REPLY without ever leaving, until it is MAILBOX_END. */
	.globl	mailbox_guest, mailbox_guest_end
mailbox_guest:
1:	movl	0x1000, %eax
	movl	%eax, 0x1004
	cmpl	$-1, %eax
	jne	1b
	hlt
mailbox_guest_end:

/* Adds up the first dwords of the ECX pages at ESI and writes the sum to port 0x10. */
	.globl	sum_guest, sum_guest_end
sum_guest:
	xorl	%eax, %eax
1:	addl	(%esi), %eax
	addl	$0x1000, %esi
	decl	%ecx
	jnz	1b
	outl	%eax, $0x10
	hlt
sum_guest_end:

	.section .note.GNU-stack, "", @progbits
