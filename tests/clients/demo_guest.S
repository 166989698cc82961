/* The guest of demo.c: real mode, loaded and entered at 0. Counts from 1 to 10 on port 0x10. */
	.section .rodata
	.code16
	.globl	demo_guest, demo_guest_end
demo_guest:
	xorw	%ax, %ax
1:	incw	%ax
	outw	%ax, $0x10
	cmpw	$10, %ax
	jne	1b
	hlt
demo_guest_end:

	.section .note.GNU-stack, "", @progbits
