# SPDX-License-Identifier: GPL-2.0
#
# The relocate stub's look at pages that the peer is not given. Goes on from relocate.S.
#
# It is done here, between the last instruction of one kernel and the first of the other, because
# here nothing else runs: no kernel's own bookkeeping, no interrupt, no bus master. What has changed
# between the two looks was changed by the peer. Paging is off, so every page below 4 GiB is
# reached, whether or not its kernel had it mapped.

# Walks the table of watched pages, whose pages are those of an exchange list: %ebx = page of the
# table, %edx = entry (address, sum), %ecx = entries left. %edi = 0 notes the sums; 1 compares, marks
# the addresses of those that differ, and counts them. Clobbers %eax, %ebx, %ecx, %edx, %esi.
kjump_stub_watch:
	movl	$0, {CHANGED}(%ebp)
	movl	{WATCHED}(%ebp), %ebx
.Lwatch_page:
	testl	%ebx, %ebx
	jz	.Lwatch_end
	movl	4(%ebx), %ecx
	leal	8(%ebx), %edx
.Lwatch_entry:
	testl	%ecx, %ecx
	jz	.Lwatch_next
	pushl	%ecx
	movl	(%edx), %esi
	call	kjump_stub_sum
	testl	%edi, %edi
	jz	.Lwatch_note
	cmpl	%eax, 4(%edx)
	je	.Lwatch_done
	orl	${WATCH_CHANGED}, (%edx)
	incl	{CHANGED}(%ebp)
	jmp	.Lwatch_done
.Lwatch_note:
	movl	%eax, 4(%edx)
.Lwatch_done:
	popl	%ecx
	addl	$8, %edx
	decl	%ecx
	jmp	.Lwatch_entry
.Lwatch_next:
	movl	(%ebx), %ebx
	jmp	.Lwatch_page
.Lwatch_end:
	ret

# The sum of the page at %esi, in %eax. Each step is one to one in what was before and in the word
# that comes in, so that a page with one word changed never has the same sum; more changes have it
# by a chance of 1 to 2^32. Clobbers %ecx, %esi.
kjump_stub_sum:
	movl	$1024, %ecx
	xorl	%eax, %eax
1:	xorl	(%esi), %eax
	roll	$7, %eax
	imull	$0x9e3779b1, %eax, %eax
	addl	$4, %esi
	decl	%ecx
	jnz	1b
	ret

