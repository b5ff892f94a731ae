# SPDX-License-Identifier: GPL-2.0
#
# The shim: what stands between the kernel that calls and a program that runs with paging off. It is
# loaded as a peer, at a fixed address, with its frame in the next page (shim.rs). Entered by A's
# stub it gives the program the machine that it expects and the caller's registers, and when the
# program comes back, faults, or has not come back when the time is over, it goes back to A.
#
# The time is over when an NMI says so, as that stops a program whose interrupts are off as well: the
# IO-APIC delivers what comes in at pin 2 as one. In protected mode that is the HPET's interrupt at
# the deadline, and the NMI and double faults have tasks of their own, so that the program's stack
# may be anything. In real mode the timer has to tick, at the same pin, and the ticks are counted.
#
# Names in braces are addresses or constants from shim.rs. AT(x) is the address of x when it runs.

	.pushsection .rodata.kjump_shim, "a"
	.code32
	.balign	16
	.globl	kjump_shim_start
kjump_shim_start:

# [esp] = A's jump-back entry; flat segments, interrupts and paging off.
.Lstart:
	cli
	cld
	movl	(%esp), %eax
	movl	%eax, {BACK}
	movl	${STACK}, %esp
	call	.Lflat
	movb	$0x89, {TASK_DESCRIPTOR}+5	# not busy
	movb	$0x89, {NMI_DESCRIPTOR}+5
	movb	$0x89, {DOUBLE_DESCRIPTOR}+5
	movw	${TASK}, %ax
	ltrw	%ax
	lidt	{IDTR}
	movl	$0, {OUTCOME}
	movl	$0, {VECTOR}
	# Nobody is there to answer the other kernel's devices.
	movb	$0xff, %al
	outb	%al, $0x21
	outb	%al, $0xa1
	cmpl	$0, {REAL}
	jne	.Lto_real
	call	.Lwatch
	cmpl	$0, {OUTCOME}
	jne	.Lfinish			# that long it cannot be watched

	movl	{STACK_POINTER}, %esp
	pushl	$(.Lreturned - kjump_shim_start + {BASE})
	pushl	{ENTRY}
	pushl	{IN}+{FLAGS}
	movl	{IN}+{EBX}, %ebx
	movl	{IN}+{ECX}, %ecx
	movl	{IN}+{EDX}, %edx
	movl	{IN}+{ESI}, %esi
	movl	{IN}+{EDI}, %edi
	movl	{IN}+{EBP}, %ebp
	movl	{IN}+{EAX}, %eax
	popfl
	ret

# The program has returned; its stack and segments may be anything, but %cs and %ds are flat.
.Lreturned:
	movl	%esp, {STACK_POINTER_OUT}
	movl	${STACK}, %esp
	pushfl
	popl	{OUT}+{FLAGS}
	movl	%eax, {OUT}+{EAX}
	movl	%ebx, {OUT}+{EBX}
	movl	%ecx, {OUT}+{ECX}
	movl	%edx, {OUT}+{EDX}
	movl	%esi, {OUT}+{ESI}
	movl	%edi, {OUT}+{EDI}
	movl	%ebp, {OUT}+{EBP}
	movl	${RETURNED}, {OUTCOME}
.Lfinish:
	cli
	cld
	movl	${STACK}, %esp
	call	.Lflat
	call	.Lunwatch
	movb	$0xff, %al
	outb	%al, $0x21
	outb	%al, $0xa1
	movl	{BACK}, %eax
	call	*%eax
	# Entered again.
	jmp	.Lstart

# Our GDT, and flat segments from it. On a stack of ours.
.Lflat:
	lgdt	{GDTR}
	ljmp	${CODE}, $(1f - kjump_shim_start + {BASE})
1:	movw	${DATA}, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %fs
	movw	%ax, %gs
	movw	%ax, %ss
	ret

# One NMI at the deadline. Legacy replacement routing is off, and the counter is ours to set: A's
# clock source starts anew when it resumes. The time is told in microseconds, and the HPET tells how
# long its ticks are, in femtoseconds; the comparator has 32 bits, of which 31 are used.
.Lwatch:
	movl	{HPET}, %edi
	testl	%edi, %edi
	jz	1f
	movl	4(%edi), %ecx
	movl	%ecx, {PERIOD}
	movl	{MICROSECONDS}, %eax
	movl	$1000000000, %edx
	mull	%edx
	cmpl	%ecx, %edx
	jae	2f			# the quotient has more than 32 bits, or there is no divisor
	divl	%ecx
	testl	%eax, %eax
	js	2f			# QEMU takes what is half of the counter's span ahead for the past
	movl	%eax, %ebx
	movb	$0x30, %al		# the other timer at that pin stands still: no count is written
	outb	%al, $0x43
	movl	$0, 0x10(%edi)
	movl	$0, 0xf0(%edi)
	movl	$0, 0xf4(%edi)
	movl	$((2 << 9) | 0x100 | 4), 0x100(%edi)	# to pin 2, 32 bits, once, enabled
	movl	%ebx, 0x108(%edi)
	call	.Lpin
	movl	$1, 0x10(%edi)
1:	ret
2:	movl	${TOO_LONG}, {OUTCOME}
	ret

# Pin 2 is an NMI from now on.
.Lpin:
	movl	{IOAPIC}, %esi
	movl	$0x15, (%esi)
	movl	{APIC_ID}, %eax
	shll	$24, %eax
	movl	%eax, 0x10(%esi)
	movl	$0x14, (%esi)
	movl	$(4 << 8), 0x10(%esi)			# edge, NMI
	ret

.Lunwatch:
	movl	{IOAPIC}, %esi
	testl	%esi, %esi
	jz	1f
	movl	$0x14, (%esi)
	movl	$0x10000, 0x10(%esi)
	movl	{HPET}, %edi
	testl	%edi, %edi
	jz	1f
	movl	$0, 0x10(%edi)
	movl	$0, 0x100(%edi)
1:	ret

# Tasks of protected mode: the NMI, the double fault. An IRET lets the next NMI in.
	.globl	kjump_shim_nmi
kjump_shim_nmi:
	movl	${TIMED_OUT}, {OUTCOME}
	jmp	.Lunblock
	.globl	kjump_shim_double
kjump_shim_double:
	movl	${FAULTED}, {OUTCOME}
	movl	$8, {VECTOR}
	movl	{TASK_EIP}, %eax
	movl	%eax, {FAULT_EIP}
.Lunblock:
	movl	${STACK}, %esp
	pushl	$2
	pushl	${CODE}
	pushl	$(.Lfinish - kjump_shim_start + {BASE})
	pushl	$2			# without NT, which the task switch has set: IRET is no switch
	popfl
	iretl

# Faults of protected mode, 16 bytes each. Nothing is expected of the stack: where it is no memory,
# the address of the instruction is wrong, and that is all.
	.balign	16
	.globl	kjump_shim_faults
kjump_shim_faults:
	.set	kjump_shim_vector, 0
	.rept	32
	movb	$kjump_shim_vector, {VECTOR}
	jmp	.Lfault
	.balign	16
	.set	kjump_shim_vector, kjump_shim_vector + 1
	.endr
.Lfault:
	movl	{VECTOR}, %eax
	movl	(%esp), %ebx
	movl	$0x60227d00, %ecx	# those with an error code: 8, 10-14, 17, 21, 29, 30
	btl	%eax, %ecx
	jnc	1f
	movl	4(%esp), %ebx
1:	movl	%ebx, {FAULT_EIP}
	movl	${FAULTED}, {OUTCOME}
	jmp	.Lfinish

# Real mode: interrupt controllers and timer as firmware sets them up, its interrupt table at 0.
.Lto_real:
	movb	$0x11, %al
	outb	%al, $0x20
	outb	%al, $0xa0
	movb	$0x08, %al
	outb	%al, $0x21
	movb	$0x70, %al
	outb	%al, $0xa1
	movb	$4, %al
	outb	%al, $0x21
	movb	$2, %al
	outb	%al, $0xa1
	movb	$1, %al
	outb	%al, $0x21
	outb	%al, $0xa1
	movb	$0xfe, %al		# the timer alone: other devices are frozen
	outb	%al, $0x21
	movb	$0xff, %al
	outb	%al, $0xa1
	movb	$0x36, %al		# 18.2 Hz; it stands still until its count is written
	outb	%al, $0x43
	movl	{TICKS}, %eax
	movl	%eax, {TICKS_LEFT}
	testl	%eax, %eax
	jz	1f
	call	.Lpin
1:	movl	8, %eax
	movl	%eax, {SAVED_NMI}
	movl	$((({BASE} >> 4) << 16) + .Lreal_nmi - kjump_shim_start), 8
	lidt	{REAL_IDTR}
	ljmp	${CODE16}, $(.Lreal1 - kjump_shim_start)
	.code16
.Lreal1:
	movw	${DATA16}, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %fs
	movw	%ax, %gs
	movw	%ax, %ss
	movl	%cr0, %eax
	andb	$0xfe, %al
	movl	%eax, %cr0
	ljmp	$({BASE} >> 4), $(.Lreal2 - kjump_shim_start)
.Lreal2:
	xorw	%ax, %ax
	movw	%ax, %ds
	lssw	{STACK_POINTER}, %sp
	# Only now the timer starts: a tick is an NMI, which must not come between the two modes. An
	# emulated machine may stand still for longer than a tick anywhere.
	outb	%al, $0x40
	outb	%al, $0x40
	pushw	$({BASE} >> 4)
	pushw	$(.Lreal_returned - kjump_shim_start)
	pushw	{IN}+{FLAGS}
	pushw	{ENTRY}+2
	pushw	{ENTRY}
	movw	{IN}+{ES}, %es
	movw	{IN}+{FS}, %fs
	movw	{IN}+{GS}, %gs
	movl	{IN}+{EAX}, %eax
	movl	{IN}+{EBX}, %ebx
	movl	{IN}+{ECX}, %ecx
	movl	{IN}+{EDX}, %edx
	movl	{IN}+{ESI}, %esi
	movl	{IN}+{EDI}, %edi
	movl	{IN}+{EBP}, %ebp
	movw	{IN}+{DS}, %ds
	iretw

# The program has returned. The frame is in reach of %cs.
.Lreal_returned:
	movl	%eax, %cs:{OUT}+{EAX}-{BASE}
	movl	%ebx, %cs:{OUT}+{EBX}-{BASE}
	movl	%ecx, %cs:{OUT}+{ECX}-{BASE}
	movl	%edx, %cs:{OUT}+{EDX}-{BASE}
	movl	%esi, %cs:{OUT}+{ESI}-{BASE}
	movl	%edi, %cs:{OUT}+{EDI}-{BASE}
	movl	%ebp, %cs:{OUT}+{EBP}-{BASE}
	movw	%ds, %cs:{OUT}+{DS}-{BASE}
	movw	%es, %cs:{OUT}+{ES}-{BASE}
	movw	%fs, %cs:{OUT}+{FS}-{BASE}
	movw	%gs, %cs:{OUT}+{GS}-{BASE}
	movw	%sp, %cs:{STACK_POINTER_OUT}-{BASE}
	movw	%ss, %cs:{STACK_POINTER_OUT}+2-{BASE}
	movw	$0, %ax
	movw	%ax, %ss
	movw	${STACK}, %sp
	pushfl
	popl	%cs:{OUT}+{FLAGS}-{BASE}
	movl	${RETURNED}, %cs:{OUTCOME}-{BASE}
.Lreal_end:
	cli
	cld
	movb	$0x30, %al		# no tick until the interrupt table is ours again
	outb	%al, $0x43
	lgdtl	%cs:{GDTR}-{BASE}
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	${CODE}, $(.Lprotected - kjump_shim_start + {BASE})

# A tick. If the program is in protected mode of its own just then, there is no help.
.Lreal_nmi:
	decl	%cs:{TICKS_LEFT}-{BASE}
	jz	1f
	iretw
1:
	movl	${TIMED_OUT}, %cs:{OUTCOME}-{BASE}
	jmp	.Lreal_end

	.code32
.Lprotected:
	movw	${DATA}, %ax
	movw	%ax, %ds
	movw	%ax, %ss
	movl	${STACK}, %esp
	lidt	{IDTR}
	movl	{SAVED_NMI}, %eax
	movl	%eax, 8
	cmpl	${TIMED_OUT}, {OUTCOME}
	je	.Lunblock
	jmp	.Lfinish

	.globl	kjump_shim_end
kjump_shim_end:
	.code{BITS}
	.popsection
