# SPDX-License-Identifier: GPL-2.0
#
# The relocate stub's exchange of window and shadow, paging off. Goes on from relocate.S.

# Both exchanges walk the list pages: %ebx = list page, %edx = entry, %ecx = entries left,
# %edi = window page with its flags, %esi = shadow page with its flags.
#
# Out: FIXED copies window to shadow; OURS with THEIRS swaps; OURS copies out; THEIRS copies in.
kjump_stub_exchange_out:
	call	kjump_stub_wide
	movl	$0, {BACKED_UP}(%ebp)
	movl	$0, {LOADED}(%ebp)
	movl	{LIST}(%ebp), %ebx
.Lout_page:
	testl	%ebx, %ebx
	jz	.Lout_end
	movl	4(%ebx), %ecx
	leal	8(%ebx), %edx
.Lout_entry:
	testl	%ecx, %ecx
	jz	.Lout_next
	pushl	%ecx
	movl	(%edx), %edi
	movl	4(%edx), %esi
	testl	${ENTRY_FIXED}, %edi
	jnz	.Lout_backup
	testl	${ENTRY_OURS}, %edi
	jz	.Lout_free
	testl	${ENTRY_THEIRS}, %esi
	jz	.Lout_backup
	incl	{BACKED_UP}(%ebp)
	incl	{LOADED}(%ebp)
	call	kjump_stub_swap
	jmp	.Lout_done
.Lout_backup:
	incl	{BACKED_UP}(%ebp)
	xchgl	%esi, %edi
	call	kjump_stub_copy
	jmp	.Lout_done
.Lout_free:
	testl	${ENTRY_THEIRS}, %esi
	jz	.Lout_done
	incl	{LOADED}(%ebp)
	call	kjump_stub_copy
	testl	${ONE_WAY}, {FEATURES}(%ebp)
	jz	.Lout_done
	call	kjump_stub_clear
.Lout_done:
	popl	%ecx
	addl	$8, %edx
	decl	%ecx
	jmp	.Lout_entry
.Lout_next:
	movl	(%ebx), %ebx
	jmp	.Lout_page
.Lout_end:
	ret

# Back: which of the peer's pages matter is the peer's to say, in its map, if it filled it in;
# else all do if it can be entered again, and none if it cannot. THEIRS is noted in the list for
# the next way out.
kjump_stub_exchange_back:
	call	kjump_stub_wide
	movl	$0, {PEER_KEPT}(%ebp)
	movl	{LIST}(%ebp), %ebx
.Lback_page:
	testl	%ebx, %ebx
	jz	.Lback_end
	movl	4(%ebx), %ecx
	leal	8(%ebx), %edx
.Lback_entry:
	testl	%ecx, %ecx
	jz	.Lback_next
	pushl	%ecx
	movl	(%edx), %edi
	movl	4(%edx), %esi
	andl	$~{ENTRY_THEIRS}, %esi
	testl	${ENTRY_FIXED}, %edi
	jnz	.Lback_home
	cmpl	$0, {PEER_ENTRY}(%ebp)
	je	.Lback_note
	movl	{MAILBOX}(%ebp), %eax
	testl	%eax, %eax
	jz	.Lback_theirs
	cmpl	$1, {MAP_VALID}(%eax)
	jne	.Lback_theirs
	movl	{PEER_MAP}(%ebp), %ecx
	testl	%ecx, %ecx
	jz	.Lback_theirs
	movl	%edi, %eax
	shrl	$12, %eax
	btl	%eax, (%ecx)
	jnc	.Lback_note
.Lback_theirs:
	orl	${ENTRY_THEIRS}, %esi
	incl	{PEER_KEPT}(%ebp)
.Lback_note:
	movl	%esi, 4(%edx)
	testl	${ENTRY_OURS}, %edi
	jz	.Lback_free
	testl	${ENTRY_THEIRS}, %esi
	jz	.Lback_home
	call	kjump_stub_swap
	jmp	.Lback_done
.Lback_home:
	call	kjump_stub_copy
	jmp	.Lback_done
.Lback_free:
	testl	${ENTRY_THEIRS}, %esi
	jz	.Lback_done
	xchgl	%esi, %edi
	call	kjump_stub_copy
.Lback_done:
	popl	%ecx
	addl	$8, %edx
	decl	%ecx
	jmp	.Lback_entry
.Lback_next:
	movl	(%ebx), %ebx
	jmp	.Lback_page
.Lback_end:
	ret

# Readies the FPU for the copies below, whatever state a kernel left it in; what it held has been
# saved by save_processor_state, here as there. Clobbers %eax.
kjump_stub_wide:
	testl	${HAS_MMX}, {FEATURES}(%ebp)
	jz	1f
	movl	%cr0, %eax
	andl	$~({CR0_TS} | {CR0_EM}), %eax
	movl	%eax, %cr0
	fninit
1:	ret

# Copies the page at %esi to the page at %edi; flags in the low bits are dropped. Clobbers %eax,
# %ecx, %esi, %edi, and the FPU where there is MMX. In the largest pieces that the CPU has, and not by
# `rep movsl`: an emulator looks at each store into what has been code, and at its interrupts
# after each turn of a `rep`.
kjump_stub_copy:
	andl	$~0xfff, %esi
	andl	$~0xfff, %edi
	testl	${HAS_MMX}, {FEATURES}(%ebp)
	jz	2f
	movl	$128, %ecx
1:	movq	(%esi), %mm0
	movq	8(%esi), %mm1
	movq	16(%esi), %mm2
	movq	24(%esi), %mm3
	movq	%mm0, (%edi)
	movq	%mm1, 8(%edi)
	movq	%mm2, 16(%edi)
	movq	%mm3, 24(%edi)
	addl	$32, %esi
	addl	$32, %edi
	decl	%ecx
	jnz	1b
	emms
	ret
2:	movl	$512, %ecx
3:	movl	(%esi), %eax
	movl	%eax, (%edi)
	movl	4(%esi), %eax
	movl	%eax, 4(%edi)
	addl	$8, %esi
	addl	$8, %edi
	decl	%ecx
	jnz	3b
	ret

# Zeroes the page that ends at %esi: what goes one way is not to lie in memory twice, where the kernel
# that is entered believes that there is nothing. Clobbers %eax, %ecx, %esi.
kjump_stub_clear:
	xorl	%eax, %eax
	movl	$256, %ecx
1:	subl	$16, %esi
	movl	%eax, (%esi)
	movl	%eax, 4(%esi)
	movl	%eax, 8(%esi)
	movl	%eax, 12(%esi)
	decl	%ecx
	jnz	1b
	ret

# Swaps the pages at %esi and %edi; flags in the low bits are dropped. Clobbers what
# kjump_stub_copy does.
kjump_stub_swap:
	andl	$~0xfff, %esi
	andl	$~0xfff, %edi
	testl	${HAS_MMX}, {FEATURES}(%ebp)
	jz	2f
	movl	$128, %ecx
1:	movq	(%esi), %mm0
	movq	8(%esi), %mm1
	movq	16(%esi), %mm2
	movq	24(%esi), %mm3
	movq	(%edi), %mm4
	movq	8(%edi), %mm5
	movq	16(%edi), %mm6
	movq	24(%edi), %mm7
	movq	%mm0, (%edi)
	movq	%mm1, 8(%edi)
	movq	%mm2, 16(%edi)
	movq	%mm3, 24(%edi)
	movq	%mm4, (%esi)
	movq	%mm5, 8(%esi)
	movq	%mm6, 16(%esi)
	movq	%mm7, 24(%esi)
	addl	$32, %esi
	addl	$32, %edi
	decl	%ecx
	jnz	1b
	emms
	ret
2:	pushl	%ebx
	movl	$1024, %ecx
3:	movl	(%esi), %eax
	movl	(%edi), %ebx
	movl	%eax, (%edi)
	movl	%ebx, (%esi)
	addl	$4, %esi
	addl	$4, %edi
	decl	%ecx
	jnz	3b
	popl	%ebx
	ret

# Phase 6, one way: all registers but %esi clear, [esp] = 0.
.Lone_way:
	pushl	$0
	pushl	%eax
	xorl	%eax, %eax
	xorl	%ebx, %ebx
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	xorl	%edi, %edi
	xorl	%ebp, %ebp
	ret

	.globl	kjump_stub_nmi
kjump_stub_nmi:
	iretl
	.globl	kjump_stub_end
kjump_stub_end:
