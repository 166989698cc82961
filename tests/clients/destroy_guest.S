/* Real-mode guests of destroy.c, loaded where DESTROY_CODE and on say (see guest.h). */
	.section .rodata
	.code16

/* Lets the PIC raise vectors 0x20 on, then signals both ioeventfds and waits for an interrupt, for
 * ever. */
	.globl	signalling_guest, signalling_guest_end
signalling_guest:
	movb	$0x11, %al
	outb	%al, $0x20
	movb	$0x20, %al
	outb	%al, $0x21
	movb	$4, %al
	outb	%al, $0x21
	movb	$1, %al
	outb	%al, $0x21
	movb	$0, %al
	outb	%al, $0x21
	sti
1:	outb	%al, $0x10
	movl	$0x200000, %esi
	movl	%eax, (%esi)
	hlt
	jmp	1b
signalling_guest_end:

/* Signals the port's ioeventfd without a pause. */
	.globl	busy_guest, busy_guest_end
busy_guest:
1:	outb	%al, $0x10
	incl	%eax
	jmp	1b
busy_guest_end:

/* Ends the interrupt of a line of the first PIC. */
	.globl	line_handler, line_handler_end
line_handler:
	pushw	%ax
	movb	$0x20, %al
	outb	%al, $0x20
	popw	%ax
	iret
line_handler_end:

	.section .note.GNU-stack, "", @progbits
