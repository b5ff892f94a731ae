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
# What compares A's pages outside the window is in watch.S. The exchange of pages is in exchange.S,
# which also ends the copy; the last phase, back in the module's text, is in resume.S. The four are
# assembled as one.
#
# What can go wrong. From phase 2 on an exception has no handler and resets the machine; so
# whatever may be absent on some CPU (MSRs) is asked for before and told by {FEATURES}. An
# NMI is answered by a lone iret, between any two instructions from phase 1 to phase 9: each
# table that is loaded serves together with the one that is replaced next. So there are two IDTs.
# One is at the page's virtual address, for what runs in the module's text; its gate names the
# kernel's code selector, which the stub's GDT has too. The other one is the stub's, which the peer
# has until it loads its own: its gate names the boot protocol's selector, as a kernel that boots
# keeps that in each GDT that it loads before.

	.text

# void kjump_stub_enter(struct ControlPage *control)
#
# regparm(3): %eax = control page, virtual. Interrupts are off, this is the only CPU that runs.
# Returns when the peer has come back. Does not return from a one-way jump.
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
	movl	%cr4, %eax
	movl	%eax, {CR4}(%ebp)
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
	lidt	{CROSSING_IDTR}(%ebp)

	# Phase 2: onto tables that map the control page at its physical address too. Their kernel
	# half is the current one, so this text, the stack, GDT and IDT stay where they are.
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
	movl	%eax, %cr4

	# Phase 4: an offline CPU still sits in a hlt loop in our text; an SMI or NMI would have it
	# go on there. INIT takes it out of that text before the text is exchanged. And a device
	# whose driver left it bus mastering when it froze must not do so in the peer's memory.
	call	kjump_stub_silence_cpus
	call	kjump_stub_silence_devices

	# Phase 5: our window out, the peer's in; and what is not the peer's is summed, if asked for.
	call	kjump_stub_exchange_out
	xorl	%edi, %edi
	call	kjump_stub_watch

	.globl	kjump_stub_leave
kjump_stub_leave:
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
	xorl	%eax, %eax
	movl	%eax, %cr4
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
	# Before the exchange, which writes to the list.
	movl	$1, %edi
	call	kjump_stub_watch
	call	kjump_stub_exchange_back

	.globl	kjump_stub_up
kjump_stub_up:
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
	movl	{CR4}(%ebp), %eax
	movl	%eax, %cr4
	movl	{TABLES}(%ebp), %eax
	movl	%eax, %cr3
	movl	{CR0}(%ebp), %eax
	movl	%eax, %cr0
	jmp	1f
1:	movl	{VIRT}(%ebp), %ebp
	movl	{RESUME}(%ebp), %eax
	jmp	*%eax

# Loads the stub's GDT and IDT and flat segments. %ebp = control page, at an address that is
# both linear and physical. The GDT is first: it has what the gates of all IDTs name that were
# loaded before, and CS comes from it at once. Clobbers %eax.
kjump_stub_flat:
	pushl	${SEL_FLAT_CODE}
	leal	{CODE} + 1f - kjump_stub_start(%ebp), %eax
	pushl	%eax
	lgdt	{STUB_GDTR}(%ebp)
	lretl
1:	lidt	{STUB_IDTR}(%ebp)
	movl	${SEL_FLAT_DATA}, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
	xorl	%eax, %eax
	lldt	%ax
	ret

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
	movl	$4000, %ecx		# about 4 ms of port writes for the others to get there
1:	outb	%al, $0x80
	pause				# an emulator that runs one CPU after the other turns to them
	decl	%ecx
	jnz	1b
3:	ret

# Clears PCI bus mastering of every device in the list at {BUS_MASTERS}: what the peer left
# running must not write into memory that becomes ours. Clobbers %eax, %ecx, %edx, %esi.
	.globl	kjump_stub_silence_devices
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
