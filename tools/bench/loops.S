/*
 * Loops that run both natively, as functions of C, and in a guest: uint64_t loop(uint8_t
 * *data, uint64_t turns), position-independent, leaf or calling only inside this file. `loops.c`
 * says how many instructions a turn has.
 */
	.intel_syntax noprefix
	.text
	.globl	loops_begin, loops_end, loop_halt
	.balign 64
loops_begin:
loop_halt:				/* what a guest's loop returns to */
	hlt

	.macro	LOOP name
	.globl	loop_\name
	.balign 64
loop_\name:
	.endm

LOOP memory				/* load, add, store: 5 */
	mov	rdx, 3
1:	mov	rax, [rdi]
	add	rax, rdx
	mov	[rdi], rax
	dec	rsi
	jnz	1b
	ret

LOOP xorshift				/* 11 */
	mov	rax, 88172645463325252
1:	mov	rdx, rax
	shl	rdx, 13
	xor	rax, rdx
	mov	rdx, rax
	shr	rdx, 7
	xor	rax, rdx
	mov	rdx, rax
	shl	rdx, 17
	xor	rax, rdx
	dec	rsi
	jnz	1b
	ret

LOOP flags				/* carry chain: 8 */
	xor	eax, eax
	mov	rdx, -3
	mov	rcx, 5
1:	add	rax, rdx
	adc	rcx, rax
	rcl	rdx, 1
	adc	rax, 0
	sbb	rcx, rdx
	setc	r8b
	dec	rsi
	jnz	1b
	ret

LOOP sum				/* indexed loads of one 4 KiB page: 5 */
	xor	eax, eax
	xor	ecx, ecx
1:	add	rax, [rdi + rcx * 8]
	inc	ecx
	and	ecx, 511
	dec	rsi
	jnz	1b
	ret

LOOP branches				/* taken or not by a pseudo-random bit: 6.5 on average */
	xor	eax, eax
	mov	edx, 12345
1:	imul	edx, edx, 1103515245
	add	edx, 12345
	bt	edx, 16
	jnc	2f
	inc	rax
2:	dec	rsi
	jnz	1b
	ret

LOOP calls				/* 7 */
	xor	eax, eax
1:	call	2f
	dec	rsi
	jnz	1b
	ret
2:	push	rsi
	add	rax, rsi
	pop	rsi
	ret

LOOP multiply				/* 7 */
	mov	rax, 0x9e3779b97f4a7c15
	mov	rcx, rax
1:	mul	rcx
	add	rax, rdx
	imul	r8, rax, 31
	lea	rax, [rax + r8 + 1]
	or	rax, 1
	dec	rsi
	jnz	1b
	ret

LOOP sse2				/* load, two adds of integers: 4 */
	pxor	xmm0, xmm0
	movdqa	xmm1, [rdi + 16]
1:	paddd	xmm0, [rdi]
	paddd	xmm0, xmm1
	dec	rsi
	jnz	1b
	movq	rax, xmm0
	ret

LOOP double				/* chain of scalars: 5 */
	mov	eax, 1
	cvtsi2sd xmm1, eax
	mov	eax, 3
	cvtsi2sd xmm2, eax
	movapd	xmm0, xmm1
1:	addsd	xmm0, xmm1
	divsd	xmm0, xmm2
	mulsd	xmm0, xmm2
	dec	rsi
	jnz	1b
	movq	rax, xmm0
	ret

LOOP copy				/* 64 bytes: 12 */
	xor	ecx, ecx
1:	movdqu	xmm0, [rdi + rcx]
	movdqu	xmm1, [rdi + rcx + 16]
	movdqu	xmm2, [rdi + rcx + 32]
	movdqu	xmm3, [rdi + rcx + 48]
	movups	[rdi + rcx + 2048], xmm0
	movups	[rdi + rcx + 2064], xmm1
	movups	[rdi + rcx + 2080], xmm2
	movups	[rdi + rcx + 2096], xmm3
	lea	ecx, [rcx + 64]
	and	ecx, 1023
	dec	rsi
	jnz	1b
	mov	rax, [rdi + 2048]
	ret

LOOP avx2				/* 256 bits from memory: 6 */
	vpxor	ymm0, ymm0, ymm0
1:	vmovdqu	ymm1, [rdi + 32]
	vpaddd	ymm0, ymm0, ymm1
	vpxor	ymm0, ymm0, [rdi]
	vpsrld	ymm0, ymm0, 1
	dec	rsi
	jnz	1b
	vmovq	rax, xmm0
	vzeroupper
	ret

LOOP x87				/* 5 */
	fninit
	fldpi
	fld1
1:	fadd	st(1), st
	fmul	st, st(0)
	fsqrt
	dec	rsi
	jnz	1b
	fstp	st(0)
	fistp	qword ptr [rdi]
	mov	rax, [rdi]
	ret
loops_end:
	.section .note.GNU-stack, "", @progbits
