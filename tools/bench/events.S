/*
 * A guest in real mode that answers interrupts: it enables its local APIC, tells by port 0x80 that
 * it is ready, and halts. Each interrupt ends with a write to port 0x10.
 */
	.section .rodata
	.code16
	.globl event_guest, event_handler, event_guest_end
event_guest:
	addr32 movl $0x1ff, 0xfee000f0
	addr32 movl $0x10000, 0xfee00350
	out %al, $0x80
	sti
1:	hlt
	jmp 1b
event_handler:
	addr32 movl $0, 0xfee000b0
	out %al, $0x10
	iret
event_guest_end:

	.section .note.GNU-stack, "", @progbits
