# SPDX-License-Identifier: GPL-2.0
#
# The helper: one page of code between a peer whose kernel is mainline's (KEXEC_JUMP, no kjump.ko)
# and the kernel that it was entered from. The peer loads it by plain kexec_load with
# KEXEC_PRESERVE_CONTEXT and leaves through it; the other kernel enters the peer through it again.
# docs/interop.md says what mainline's way back lacks on i386 and how this supplies it.
#
# It runs with paging off, interrupts off, at the page that mod.rs found for it, whose address is
# patched into the two moves to %ebx. While the peer runs, the page holds what the peer had there,
# and this code lies in a page of the peer's kernel: the exchange that mainline does anyway.
# Names in braces are offsets into the page's parameters, or constants, from helper.rs.

	.pushsection .rodata.kjump_helper, "a"
	.code32
	.balign	16
	.globl	kjump_helper_start
kjump_helper_start:

# Entered by the peer's kernel, which is leaving. [esp] = where it is entered again, 0 if it has left
# by a plain kexec, for good; nothing else is right but flat segments: GDTR and IDTR have a limit of 0.
	.globl	kjump_helper_patch_out
kjump_helper_patch_out:
	movl	$0x11223344, %ebx
	cli
	cld
	jmp	.Lout
	.balign	16
# struct Parameters
	.globl	kjump_helper_parameters
kjump_helper_parameters:
	.skip	{PARAMETERS_SIZE}
.Lout:
	movl	(%esp), %eax
	leal	4096(%ebx), %esp
	movl	%eax, {HERE}(%ebx)
	movl	$0, {FAILED}(%ebx)
	call	.Lanswer
	movl	{THERE}(%ebx), %eax
	call	.Lready
	jc	.Lrefused
	movl	{THERE}(%ebx), %eax
	cmpl	$0, {HERE}(%ebx)
	je	.Lfor_good
	call	*%eax

# Entered again, at the address that the call has left in [esp], as any peer. [esp] = the other
# kernel's jump-back entry, which may be another one by now. Its stack stays as it is.
	.globl	kjump_helper_patch_in
kjump_helper_patch_in:
	movl	$0x11223344, %ebx
	cli
	cld
	movl	(%esp), %eax
	leal	4096(%ebx), %esp
	movl	%eax, {THERE}(%ebx)
	jmp	.Lhome

# The peer's kernel cannot be entered again, which [esp] = 0 says. Its memory is still in its place,
# this stack included, until the other kernel's own exchange.
.Lfor_good:
	pushl	$0
	jmp	*%eax

# The other kernel is one of mainline's, and its GDT was not found: nobody could go on there. If
# nobody can here either, the machine starts again, by an exception that finds no IDT.
.Lrefused:
	cmpl	$0, {HERE}(%ebx)
	jne	1f
	ud2
1:	movl	$1, {FAILED}(%ebx)
.Lhome:
	call	.Ltell
	movl	{HERE}(%ebx), %eax
	call	.Lready			# found before, by mod.rs, or this is how it ends
	pushl	%ebx			# the peer leaves through the head of this page next time
	movl	{HERE}(%ebx), %eax
	jmp	*%eax

# Finds a kjump's handoff block: %ebp = it, or carry. Clobbers %eax.
.Lhandoff:
	movl	{THERE}(%ebx), %ebp
	andl	$0xfffff000, %ebp
	cmpl	${CONTROL_MAGIC_LOW}, (%ebp)
	jne	1f
	cmpl	${CONTROL_MAGIC_HIGH}, 4(%ebp)
	jne	1f
	cmpl	$0, 12(%ebp)
	jne	1f
	movl	8(%ebp), %ebp
	testl	%ebp, %ebp
	jz	1f
	cmpl	${HANDOFF_MAGIC_LOW}, (%ebp)
	jne	1f
	cmpl	${HANDOFF_MAGIC_HIGH}, 4(%ebp)
	jne	1f
	clc
	ret
1:	stc
	ret

# Leaves the answer in the mailbox, where the other kernel has one.
.Lanswer:
	call	.Lhandoff
	jc	1f
	movl	{STATUS}(%ebx), %eax
	movl	%eax, {MAILBOX_STATUS}(%ebp)
	leal	{REASON}(%ebx), %esi
	leal	{MAILBOX_REASON}(%ebp), %edi
	movl	${REASON_SIZE}, %ecx
	rep movsb
1:	ret

# Tells the program that waits in the peer what came: through a page of its own, if it gave one.
.Ltell:
	movl	{LETTER}(%ebx), %edi
	testl	%edi, %edi
	jz	2f
	xorl	%eax, %eax
	call	.Lhandoff
	jc	1f
	movl	{MAILBOX_COMMAND}(%ebp), %eax
1:	movl	%eax, {LETTER_COMMAND}(%edi)
	movl	{THERE}(%ebx), %eax
	movl	%eax, {LETTER_ENTRY}(%edi)
	movl	{FAILED}(%ebx), %eax
	movl	%eax, {LETTER_FAILED}(%edi)
	movl	$1, {LETTER_WRITTEN}(%edi)
2:	ret

# Goes on in ready.S.
