# SPDX-License-Identifier: GPL-2.0
#
# The relocate stub: leaves this kernel, exchanges memory with paging off, enters the peer, and
# comes back. docs/protocol.md has the protocol; this page says why each phase is as it is.
#
# Where it runs. kjump_stub_enter and kjump_stub_resume run where the module's text lies, under
# the kernel's own page tables. Everything from kjump_stub_start to kjump_stub_end is copied into
# the control page when a load is prepared and runs there, at the page's physical address: first
# under tables that map that page identically, then with paging off. The copy must not refer to
# itself by absolute addresses; %ebp holds the control page's address throughout, virtual in the
# first part, physical in the copy. All names in braces are offsets into `struct ControlPage`,
# or constants, supplied by arch/i386/stub.rs.
#
# What can go wrong. From phase 2 on an exception has no handler and resets the machine; so
# whatever may be absent on some CPU (MSRs, CR4) is asked for before and told by {FEATURES}. An
# NMI is answered by a lone iret.

	.text

# u32 kjump_stub_enter(struct ControlPage *control)
#
# regparm(3): %eax = control page, virtual. Interrupts are off, this is the only CPU that runs.
# Returns {BACK_RETURNED} when the peer has come back. Does not return from a one-way jump.
	.globl	kjump_stub_enter
	.type	kjump_stub_enter, @function
kjump_stub_enter:
	pushl	%ebx
	pushl	%esi
	pushl	%edi
	pushl	%ebp
	pushfl
	movl	%eax, %ebp

	# Phase 1: keep what save_processor_state does not keep, or restores too late.
	# The descriptor tables come first: mainline forgets GDTR, and the first segment load after
	# the return then faults three times over.
	sgdt	{GDTR}(%ebp)
	sidt	{IDTR}(%ebp)
	movw	%cs, {SEL_CS}(%ebp)
	movw	%ds, {SEL_DS}(%ebp)
	movw	%es, {SEL_ES}(%ebp)
	movw	%fs, {SEL_FS}(%ebp)
	movw	%ss, {SEL_SS}(%ebp)
	movl	%cr0, %eax
	movl	%eax, {CR0}(%ebp)
	movl	%cr3, %eax
	movl	%eax, {CR3}(%ebp)
	testl	${HAS_CR4}, {FEATURES}(%ebp)
	jz	1f
	movl	%cr4, %eax
	movl	%eax, {CR4}(%ebp)
1:
	testl	${HAS_EFER}, {FEATURES}(%ebp)
	jz	1f
	movl	${MSR_EFER}, %ecx
	rdmsr
	movl	%eax, {EFER}(%ebp)
	movl	%edx, {EFER}+4(%ebp)
1:
	testl	${HAS_MISC_ENABLE}, {FEATURES}(%ebp)
	jz	1f
	movl	${MSR_MISC_ENABLE}, %ecx
	rdmsr
	movl	%eax, {MISC_ENABLE}(%ebp)
	movl	%edx, {MISC_ENABLE}+4(%ebp)
1:
	testl	${HAS_APIC_BASE}, {FEATURES}(%ebp)
	jz	1f
	movl	${MSR_APIC_BASE}, %ecx
	rdmsr
	movl	%eax, {APIC_BASE}(%ebp)
	movl	%edx, {APIC_BASE}+4(%ebp)
1:
	movl	%dr0, %eax
	movl	%eax, {DR}(%ebp)
	movl	%dr1, %eax
	movl	%eax, {DR}+4(%ebp)
	movl	%dr2, %eax
	movl	%eax, {DR}+8(%ebp)
	movl	%dr3, %eax
	movl	%eax, {DR}+12(%ebp)
	movl	%dr6, %eax
	movl	%eax, {DR}+16(%ebp)
	movl	%dr7, %eax
	movl	%eax, {DR}+20(%ebp)
	xorl	%eax, %eax		# a breakpoint of ours must not fire over there
	movl	%eax, %dr7
	movl	%esp, {ESP}(%ebp)
	movl	$kjump_stub_resume, {RESUME}(%ebp)

	# Phase 2: onto tables that map the control page at its physical address too. Their kernel
	# half is the current one, so this text, the stack and the IDT stay where they are.
	movl	{PHYS}(%ebp), %ebx
	movl	{TABLES}(%ebp), %eax
	movl	%eax, %cr3
	leal	{CODE}(%ebx), %eax
	jmp	*%eax
	.size	kjump_stub_enter, . - kjump_stub_enter

	.globl	kjump_stub_start
kjump_stub_start:
	# %ebx = control page, physical; still paged, here mapped identically.
	movl	%ebx, %ebp
	leal	{STACK_TOP}(%ebp), %esp
	call	kjump_stub_flat

	# Phase 3: paging off. CR3 and CR4 are cleared after it, never before: with PAE a clear
	# CR4.PAE under paging faults. The peer finds CR0.PE only, as after mainline's KEXEC_JUMP.
	movl	%cr0, %eax
	andl	$~({CR0_PG} | {CR0_AM} | {CR0_WP} | {CR0_TS} | {CR0_EM}), %eax
	orl	${CR0_PE}, %eax
	movl	%eax, %cr0
	jmp	1f
1:	xorl	%eax, %eax
	movl	%eax, %cr3
	testl	${HAS_CR4}, {FEATURES}(%ebp)
	jz	1f
	movl	%eax, %cr4
1:
	# Phase 4: an offline CPU still sits in a hlt loop in our text; an SMI or NMI would have it
	# go on there. INIT takes it out of that text before the text is exchanged.
	call	kjump_stub_silence_cpus

	# Phase 5: our window out, the peer's in.
	call	kjump_stub_exchange_out

	# Phase 6: enter the peer: %esi as the boot protocol wants it, and [esp] = the jump-back
	# entry, or 0 where nobody comes back, as mainline has it.
	movl	{PARAMS}(%ebp), %esi
	movl	{TARGET}(%ebp), %eax
	testl	${ONE_WAY}, {FEATURES}(%ebp)
	jnz	.Lone_way
	xorl	%ebx, %ebx
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	xorl	%edi, %edi
	xorl	%ebp, %ebp
	call	*%eax

	# Phase 7: the jump-back entry. The peer promises protected mode without paging, flat
	# segments, interrupts off, and its own re-entry address, or 0, in [esp]; nothing else, and
	# a peer that panicked not even quiet devices. The immediate is the control page's physical
	# address, patched into the copy: the peer's stack need not be usable for a call.
	.globl	kjump_stub_back
kjump_stub_back:
	cli
	cld
	movl	(%esp), %edi
	.globl	kjump_stub_patch
kjump_stub_patch:
	movl	$0x11223344, %ebp
	leal	{STACK_TOP}(%ebp), %esp
	call	kjump_stub_flat
	movl	%edi, {PEER_ENTRY}(%ebp)
	testl	${HAS_CR4}, {FEATURES}(%ebp)
	jz	1f
	xorl	%eax, %eax
	movl	%eax, %cr4
1:
	# The peer may have switched the local APIC off or moved it; INIT needs it.
	testl	${HAS_APIC_BASE}, {FEATURES}(%ebp)
	jz	1f
	movl	${MSR_APIC_BASE}, %ecx
	movl	{APIC_BASE}(%ebp), %eax
	movl	{APIC_BASE}+4(%ebp), %edx
	wrmsr
1:
	call	kjump_stub_silence_cpus
	call	kjump_stub_silence_devices
	.globl	kjump_stub_quiet
kjump_stub_quiet:
	call	kjump_stub_exchange_back

	# Phase 8: up again. XD_DISABLE before EFER.NXE, both and CR4.PAE before paging: the saved
	# tables have NX bits and PAE's format. The identity tables serve once more; the pages
	# they point to are ours again.
	testl	${HAS_MISC_ENABLE}, {FEATURES}(%ebp)
	jz	1f
	movl	${MSR_MISC_ENABLE}, %ecx
	movl	{MISC_ENABLE}(%ebp), %eax
	movl	{MISC_ENABLE}+4(%ebp), %edx
	wrmsr
1:
	testl	${HAS_EFER}, {FEATURES}(%ebp)
	jz	1f
	movl	${MSR_EFER}, %ecx
	movl	{EFER}(%ebp), %eax
	movl	{EFER}+4(%ebp), %edx
	wrmsr
1:
	testl	${HAS_CR4}, {FEATURES}(%ebp)
	jz	1f
	movl	{CR4}(%ebp), %eax
	movl	%eax, %cr4
1:
	movl	{TABLES}(%ebp), %eax
	movl	%eax, %cr3
	movl	{CR0}(%ebp), %eax
	movl	%eax, %cr0
	jmp	1f
1:	movl	{VIRT}(%ebp), %ebp
	movl	{RESUME}(%ebp), %eax
	jmp	*%eax

# Loads the stub's GDT and IDT and flat segments. %ebp = control page, at an address that is
# both linear and physical. Clobbers %eax.
kjump_stub_flat:
	lgdt	{STUB_GDTR}(%ebp)
	lidt	{STUB_IDTR}(%ebp)
	movl	${SEL_FLAT_DATA}, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
	xorl	%eax, %eax
	lldt	%ax
	pushl	${SEL_FLAT_CODE}
	leal	{CODE} + 1f - kjump_stub_start(%ebp), %eax
	pushl	%eax
	lretl
1:	ret

# Puts every other CPU into wait-for-SIPI: INIT to all but self. Paging off. Clobbers %eax,
# %ecx, %edx.
kjump_stub_silence_cpus:
	movl	{LAPIC}(%ebp), %edx
	testl	%edx, %edx
	jz	3f
	movl	$0, 0x310(%edx)
	movl	${ICR_INIT_OTHERS}, 0x300(%edx)
	movl	$1000000, %ecx		# delivery status, bounded
1:	testl	$0x1000, 0x300(%edx)
	jz	2f
	decl	%ecx
	jnz	1b
2:	movl	${ICR_DEASSERT}, 0x300(%edx)
	movl	$1000, %ecx		# about 1 ms of port writes for the others to get there
1:	outb	%al, $0x80
	decl	%ecx
	jnz	1b
3:	ret

# Clears PCI bus mastering of every device in the list at {BUS_MASTERS}: what the peer left
# running must not write into memory that becomes ours. Clobbers %eax, %ecx, %edx, %esi.
kjump_stub_silence_devices:
	movl	{BUS_MASTERS}(%ebp), %esi
	testl	%esi, %esi
	jz	3f
	cld
1:	lodsl				# bus << 8 | devfn; all ones at the end
	cmpl	$-1, %eax
	je	3f
	shll	$8, %eax
	orl	$0x80000004, %eax	# the command register
	movw	$0xcf8, %dx
	outl	%eax, %dx
	movw	$0xcfc, %dx
	inw	%dx, %ax
	cmpw	$0xffff, %ax		# gone
	je	1b
	testw	$4, %ax
	jz	1b
	andw	$~4, %ax
	outw	%ax, %dx		# 16 bits: the status half is write-1-to-clear
	jmp	1b
3:	ret

# Both exchanges walk the list pages: %ebx = list page, %edx = entry, %ecx = entries left,
# %edi = window page with its flags, %esi = shadow page with its flags.
#
# Out: FIXED copies window to shadow; OURS with THEIRS swaps; OURS copies out; THEIRS copies in.
kjump_stub_exchange_out:
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

# Copies the page at %esi to the page at %edi; flags in the low bits are dropped. Clobbers %ecx,
# %esi, %edi.
kjump_stub_copy:
	andl	$~0xfff, %esi
	andl	$~0xfff, %edi
	movl	$1024, %ecx
	cld
	rep movsl
	ret

# Swaps the pages at %esi and %edi; flags in the low bits are dropped. Clobbers %eax, %ecx,
# %esi, %edi.
kjump_stub_swap:
	andl	$~0xfff, %esi
	andl	$~0xfff, %edi
	pushl	%ebx
	pushl	%edx
	movl	$512, %ecx
1:	movl	(%esi), %eax
	movl	(%edi), %ebx
	movl	%eax, (%edi)
	movl	%ebx, (%esi)
	movl	4(%esi), %eax
	movl	4(%edi), %edx
	movl	%eax, 4(%edi)
	movl	%edx, 4(%esi)
	addl	$8, %esi
	addl	$8, %edi
	decl	%ecx
	jnz	1b
	popl	%edx
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
	movl	${BACK_RETURNED}, %eax
	ret
	.size	kjump_stub_resume, . - kjump_stub_resume
