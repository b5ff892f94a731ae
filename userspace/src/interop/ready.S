# SPDX-License-Identifier: GPL-2.0
#
# The helper's second part: readying the CPU for a kernel of mainline's. Goes on from helper.S.

# Makes this CPU what mainline's return path takes for granted, if %eax is the entry of such a
# kernel: GDTR, segments that come from its GDT, CR4.PAE and EFER.NXE. Carry if that GDT was not
# found. Keeps %ebx.
#
# The entry lies in a page of code, 2 KiB, and data, which names the page tables.
.Lready:
	movl	%eax, %ebp
	andl	$0xfffff000, %ebp
	cmpl	${CONTROL_MAGIC_LOW}, (%ebp)
	jne	1f
	cmpl	${CONTROL_MAGIC_HIGH}, 4(%ebp)
	je	.Lis_ready		# kjump's stub sees to all that itself
1:	movl	{CP_VIRTUAL}(%ebp), %eax
	testl	%eax, %eax
	jz	.Llost			# no such page: an entry of long ago, or a wrong one
	testl	$0xfff, %eax
	jnz	.Llost
	movl	{CP_CR0}(%ebp), %ecx
	notl	%ecx
	testl	$0x80000001, %ecx
	jnz	.Llost
	# What is looked for is in that kernel's lowmem, which ends before PAGE_OFFSET comes round to
	# 0. No address beyond is read, whatever the tables say: a device's register may be there.
	movl	%ebp, %ecx
	subl	%eax, %ecx		# -PAGE_OFFSET
	testl	${SPLIT_MASK}, %ecx
	jnz	.Llost
	movl	%ecx, {LOWMEM}(%ebx)
	movl	${LIST_WORDS}, {BUDGET}(%ebx)

	# Its GDT is in the tables at the top of the address space, in the first CPU's entry area;
	# %edx goes through them page by page.
	movl	${FIRST_VIRTUAL}, %edx
.Ldirectory:
	call	.Ltable			# %esi = the page table for %edx, or carry
	jc	.Lskip
.Lpage:
	call	.Lentry			# %eax = the page at %edx, or carry
	jc	1f
	call	.Ltranslate
	jc	1f
	call	.Lis_gdt
	jnc	.Lfound
1:	addl	$0x1000, %edx
	jz	.Llost
	testl	{SPAN_MASK}(%ebx), %edx
	jnz	.Lpage
	jmp	.Ldirectory
.Lskip:
	movl	{SPAN_MASK}(%ebx), %eax
	orl	%eax, %edx
	incl	%edx
	jnz	.Ldirectory
.Llost:
	stc
	ret

	# %eax = the GDT, physical; %edx = the same, as its kernel sees it. First by the physical
	# address, as paging is off: %fs must have its per-CPU base before any C there, and the
	# first interrupt returns to the CS that it came from.
.Lfound:
	movl	%eax, %esi
	movw	$0xff, {GDTR}(%ebx)
	movl	%esi, {GDTR}+2(%ebx)
	lgdt	{GDTR}(%ebx)
	movl	$0x68, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %gs
	testb	$0x80, 0xd8+5(%esi)
	jz	1f
	movl	$0xd8, %eax
1:	movl	%eax, %fs
	leal	2f-kjump_helper_start(%ebx), %eax
	pushl	$0x60
	pushl	%eax
	lretl
2:	movl	%edx, {GDTR}+2(%ebx)
	lgdt	{GDTR}(%ebx)

	# Paging is switched on there before CR4 is put back, so PAE has to be on before, and NX
	# bits in its tables must not be reserved ones.
	movl	{CP_CR4}(%ebp), %eax
	andl	$0x20, %eax
	movl	%eax, %cr4
	testl	%eax, %eax
	jz	.Lis_ready
	pushl	%ebx
	movl	$0x80000000, %eax
	cpuid
	cmpl	$0x80000001, %eax
	jb	1f
	movl	$0x80000001, %eax
	cpuid
	testl	$0x00100000, %edx
	jz	1f
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x800, %eax
	wrmsr
1:	popl	%ebx
.Lis_ready:
	clc
	ret

# The page table that is for %edx: %esi = where it lies, or carry. Sets the mask of what one spans.
.Ltable:
	testb	$0x20, {CP_CR4}(%ebp)
	jnz	1f
	movl	$0x003fffff, {SPAN_MASK}(%ebx)
	movl	{CP_CR3}(%ebp), %eax
	call	.Ltranslate
	jc	3f
	movl	%edx, %ecx
	shrl	$22, %ecx
	movl	(%eax,%ecx,4), %eax
	jmp	2f
1:	movl	$0x001fffff, {SPAN_MASK}(%ebx)
	movl	{CP_CR3}(%ebp), %eax
	movl	%eax, %ecx
	andl	$0xfe0, %ecx		# the four pointers need not begin a page
	pushl	%ecx
	call	.Ltranslate
	popl	%ecx
	jc	3f
	addl	%ecx, %eax
	movl	%edx, %ecx
	shrl	$30, %ecx
	movl	(%eax,%ecx,8), %eax
	testb	$1, %al
	jz	3f
	call	.Ltranslate
	jc	3f
	movl	%edx, %ecx
	shrl	$21, %ecx
	andl	$0x1ff, %ecx
	movl	(%eax,%ecx,8), %eax
2:	testb	$1, %al			# there
	jz	3f
	testb	$0x80, %al		# no large page
	jnz	3f
	call	.Ltranslate
	movl	%eax, %esi
	ret
3:	stc
	ret

# The page at %edx by the page table at %esi: %eax, or carry if there is none below 4 GiB.
.Lentry:
	movl	%edx, %ecx
	shrl	$12, %ecx
	testb	$0x20, {CP_CR4}(%ebp)
	jnz	1f
	andl	$0x3ff, %ecx
	movl	(%esi,%ecx,4), %eax
	jmp	2f
1:	andl	$0x1ff, %ecx
	movl	4(%esi,%ecx,8), %eax
	andl	$0x7fffffff, %eax	# but for NX
	jnz	3f
	movl	(%esi,%ecx,8), %eax
2:	testb	$1, %al
	jz	3f
	testb	$0x10, %al		# uncached: a device, not to be read
	jnz	3f
	andl	$0xfffff000, %eax
	clc
	ret
3:	stc
	ret

# Where the page of %eax lies now, as it may be one that the kernel exchanged when it left: %eax, or
# carry if that is not lowmem. The list is mainline's, in lowmem; its pages may be any. So many words
# of it are read in all, and no page is found from then on. Keeps all but %eax and %ecx.
.Ltranslate:
	andl	$0xfffff000, %eax
	pushl	%esi
	pushl	%edi
	movl	{CP_LIST}(%ebp), %ecx
	jmp	2f
1:	cmpl	$0, {BUDGET}(%ebx)	# a wrong page may have a list that bites its tail
	je	7f
	decl	{BUDGET}(%ebx)
	movl	(%esi), %ecx
	addl	$4, %esi
2:	testb	$1, %cl			# where the next pages go
	jz	3f
	movl	%ecx, %edi
	andl	$0xfffff000, %edi
	jmp	1b
3:	testb	$2, %cl			# more of the list
	jz	4f
	movl	%ecx, %esi
	andl	$0xfffff000, %esi
	cmpl	{LOWMEM}(%ebx), %esi
	jae	7f
	jmp	1b
4:	testb	$4, %cl			# its end
	jnz	6f
	testb	$8, %cl			# where the page comes from: there it is now
	jz	1b
	cmpl	%eax, %edi
	je	5f
	addl	$0x1000, %edi
	jmp	1b
5:	movl	%ecx, %eax
	andl	$0xfffff000, %eax
	clc
	jmp	8f
6:	cmpl	{LOWMEM}(%ebx), %eax
	cmc				# carry was: below
	jmp	8f
7:	stc
8:	popl	%edi
	popl	%esi
	ret

# Whether the page at %eax is the GDT that Linux sees at %edx: kernel's and user's flat segments
# where they have always been, and a TSS in the same entry area. Carry if not. Keeps %eax.
.Lis_gdt:
	movl	$0xffff, %ecx
	cmpl	%ecx, 0x60(%eax)
	jne	1f
	cmpl	%ecx, 0x68(%eax)
	jne	1f
	cmpl	%ecx, 0x70(%eax)
	jne	1f
	cmpl	%ecx, 0x78(%eax)
	jne	1f
	movl	0x64(%eax), %ecx
	orl	$0x100, %ecx		# accessed
	cmpl	$0x00cf9b00, %ecx
	jne	1f
	movl	0x6c(%eax), %ecx
	orl	$0x100, %ecx
	cmpl	$0x00cf9300, %ecx
	jne	1f
	movl	0x74(%eax), %ecx
	orl	$0x100, %ecx
	cmpl	$0x00cffb00, %ecx
	jne	1f
	movl	0x7c(%eax), %ecx
	orl	$0x100, %ecx
	cmpl	$0x00cff300, %ecx
	jne	1f
	movl	0x84(%eax), %ecx	# the TSS's base, put together
	andl	$0xff000000, %ecx
	pushl	%ecx
	movzbl	0x84(%eax), %ecx
	shll	$16, %ecx
	orl	%ecx, (%esp)
	movzwl	0x82(%eax), %ecx
	orl	%ecx, (%esp)
	popl	%ecx
	subl	%edx, %ecx
	cmpl	$0x10000, %ecx
	jae	1f
	clc
	ret
1:	stc
	ret

	.globl	kjump_helper_end
kjump_helper_end:
	.code{BITS}
	.popsection
