# SPDX-License-Identifier: GPL-2.0
#
# The relocate stub's last phase. Goes on from exchange.S.

# Phase 9: back in the module's text, under tables whose kernel half is ours. %ebp = control
# page, virtual. What lies at the page's physical address, the stub's tables and stack, is there
# for as long as the identity tables are; so all three are left before those are.
#
# All selectors but %gs are back before any C or Rust, an NMI's handler too: SMP kernels reach
# per-CPU data through %fs. %gs may point into an LDT that only restore_processor_state loads.
# Breakpoints come last: they have a gate in the kernel's IDT only.
	.globl	kjump_stub_resume
	.type	kjump_stub_resume, @function
kjump_stub_resume:
	movl	{ESP}(%ebp), %esp
	lidt	{CROSSING_IDTR}(%ebp)
	movzwl	{SEL_CS}(%ebp), %eax
	pushl	%eax
	pushl	$1f
	lretl				# by the stub's GDT, to the selector that both have
1:	lgdt	{GDTR}(%ebp)
	movl	{CR3}(%ebp), %eax
	movl	%eax, %cr3
	movw	{SEL_SS}(%ebp), %ss
	movw	{SEL_DS}(%ebp), %ds
	movw	{SEL_ES}(%ebp), %es
	movw	{SEL_FS}(%ebp), %fs
	xorl	%eax, %eax
	movw	%ax, %gs
	lidt	{IDTR}(%ebp)
	movl	{DR}(%ebp), %eax
	movl	%eax, %dr0
	movl	{DR}+4(%ebp), %eax
	movl	%eax, %dr1
	movl	{DR}+8(%ebp), %eax
	movl	%eax, %dr2
	movl	{DR}+12(%ebp), %eax
	movl	%eax, %dr3
	movl	{DR}+16(%ebp), %eax
	movl	%eax, %dr6
	movl	{DR}+20(%ebp), %eax
	movl	%eax, %dr7
	popfl
	popl	%ebp
	popl	%edi
	popl	%esi
	popl	%ebx
	ret
	.globl	kjump_stub_resume_end
kjump_stub_resume_end:
	.size	kjump_stub_resume, . - kjump_stub_resume
