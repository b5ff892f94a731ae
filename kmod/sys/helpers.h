/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What Rust calls that is a macro, an inline function, or has a parameter that Rust and C pass
 * differently on i386: 64-bit integers and structures by value (pm_message_t, loff_t,
 * phys_addr_t with PAE). Parameters here are 32-bit scalars and pointers only; `cargo xtask
 * ffi-check` sees to it. Physical addresses below 4 GiB travel as u32, others as page frames.
 */
#ifndef KJUMP_HELPERS_H
#define KJUMP_HELPERS_H

#include <linux/types.h>


/* Memory */
void *kjh_page_alloc(bool zero);
void kjh_page_free(void *page);
void *kjh_block_alloc(u32 order);
u32 kjh_available(void);
u32 kjh_phys(const void *page);
u32 kjh_page_offset(void);
u32 kjh_low_memory_end(void);
bool kjh_pfn_is_ram(u32 pfn);
bool kjh_pfn_is_free(u32 pfn);
bool kjh_nobodys(u32 first, u32 end);
u32 kjh_frame_run(u32 pfn, u32 end, u32 *kind);
#define KJH_FRAME_USED 0
#define KJH_FRAME_FREE 1
#define KJH_FRAME_UNREADABLE 2
u32 kjh_ram_ranges(u32 *pairs, u32 room);
bool kjh_free_pages_unmapped(void);
u32 kjh_free_fill(void);
void kjh_fill_page(u32 pfn, u32 how);
#define KJH_FILL_NONE 0
#define KJH_FILL_ZERO 1
#define KJH_FILL_POISON 2

u32 kjh_vmcoreinfo(void *out, u32 room);

/* Devices' registers, other kernels' memory */
bool kjh_find_resource(const char *prefix, u32 index, u32 *start);
void *kjh_ioremap(u32 phys, u32 size);
void kjh_iounmap(void *virt);
u32 kjh_read32(const void *virt);
void kjh_write32(void *virt, u32 value);
void *kjh_memremap(u32 phys, u32 size);
void kjh_memunmap(void *virt);
u32 kjh_bus_masters(u32 *out, u32 room);

/* The way down and back */
int kjh_devices_freeze(void);
int kjh_devices_freeze_late(void);
void kjh_devices_resume_early(bool peer_ran);
void kjh_devices_resume(bool peer_ran);
void kjh_let_printers_finish(void);
void kjh_patience(u32 seconds, void *console_resume);
void kjh_irq_disable(void);
void kjh_irq_enable(void);
int kjh_next_secondary_cpu(void);
u32 kjh_online_cpus(void);
int kjh_remove_cpu(u32 cpu);
int kjh_add_cpu(u32 cpu);
void kjh_acpi_reenable(void);
void kjh_acpi_wake(void);

/* The rest */
#define KJH_NAME_SIZE 64
bool kjh_lookup(const char (*names)[KJH_NAME_SIZE], void **found, u32 count);
bool kjh_capable(void);
int kjh_locked_down(void);
const char *kjh_release(void);
u32 kjh_tsc_khz(void);
bool kjh_read_msr(u32 msr, u32 *low, u32 *high);
void kjh_watch_panics(bool on);
u32 kjh_task_pid(void);
void kjh_random(void *out, u32 size);
bool kjh_kimgcore_add(void);
void kjh_kimgcore_remove(void);
void kjh_vmcore_hide(void);
void kjh_old_seekable(void *file);
int kjh_old_mmap(void *file, void *vma, bool writable);
u32 kjh_old_insert(void *vmf, unsigned long pgoff, unsigned long pfn);
#define KJH_FAULT_MAPPED 0x100
void kjh_old_zap(void);

/* Implemented in Rust, called from helpers.c, old.c, proc.c */
int kjump_kimgcore_open(void **opened);
void kjump_kimgcore_close(void *opened);
long kjump_kimgcore_read(void *opened, u32 at, unsigned long buf, u32 size);
u32 kjump_old_fault(void *vmf, unsigned long pgoff, unsigned long first, unsigned long end);
void kjump_panicked(const char *message);

#endif
