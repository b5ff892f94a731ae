# SPDX-License-Identifier: GPL-2.0
#
# The relocate stub's last phase. Goes on from exchange.S.

# Phase 9: back in the module's text, under tables whose kernel half is ours. %ebp = control
# page, virtual. All selectors but %gs are back before any C or Rust: SMP kernels reach per-CPU
# data through %fs. %gs may point into an LDT that only restore_processor_state loads.
	.type	kjump_stub_resume, @function
kjump_stub_resume:
	movl	{CR3}(%ebp), %eax
	movl	%eax, %cr3
	lgdt	{GDTR}(%ebp)
	lidt	{IDTR}(%ebp)
	movl	{ESP}(%ebp), %esp
	movw	{SEL_SS}(%ebp), %ss
	movzwl	{SEL_CS}(%ebp), %eax
	pushl	%eax
	pushl	$1f
	lretl
1:	movw	{SEL_DS}(%ebp), %ds
	movw	{SEL_ES}(%ebp), %es
	movw	{SEL_FS}(%ebp), %fs
	xorl	%eax, %eax
	movw	%ax, %gs
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
	.size	kjump_stub_resume, . - kjump_stub_resume
