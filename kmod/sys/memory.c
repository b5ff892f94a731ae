// SPDX-License-Identifier: GPL-2.0
/*
 * Physical memory: raw pages, RAM ranges, what a frame is used for. See helpers.h.
 */
#include <linux/highmem.h>
#include <linux/ioport.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/poison.h>
#include <linux/swap.h>
#include <linux/vmcore_info.h>

#include "helpers.h"

/* From the direct map, so below 4 GiB; gives up rather than have the OOM killer called. */
void *kjh_page_alloc(bool zero)
{
	gfp_t flags = GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN;

	return (void *)__get_free_page(zero ? flags | __GFP_ZERO : flags);
}

void kjh_page_free(void *page)
{
	free_page((unsigned long)page);
}

/*
 * 2^@order contiguous pages from the direct map, each to be freed by itself; NULL if that cannot
 * be had without effort.
 */
void *kjh_block_alloc(u32 order)
{
	struct page *page = alloc_pages(GFP_KERNEL | __GFP_ZERO | __GFP_NORETRY | __GFP_NOWARN, order);

	if (!page)
		return NULL;
	split_page(page, order);
	return page_address(page);
}

/*
 * Pages of the direct map that could be had without another program going short: the estimate of
 * MemAvailable, and swap, less free high memory.
 */
u32 kjh_available(void)
{
	long pages = si_mem_available() + max(get_nr_swap_pages(), 0L);
	struct sysinfo info;

	si_meminfo(&info);
	return max(pages - (long)info.freehigh, 0L);
}

u32 kjh_phys(const void *page)
{
	return __pa(page);
}

u32 kjh_page_offset(void)
{
	return PAGE_OFFSET;
}

/* One past the last byte of the direct map, physical. */
u32 kjh_low_memory_end(void)
{
	/* Its last byte is mapped, the one behind it is not: DEBUG_VIRTUAL minds. */
	return __pa(high_memory - 1) + 1;
}

bool kjh_pfn_is_ram(u32 pfn)
{
	return page_is_ram(pfn);
}

/* Stable only with interrupts off on the one running CPU. */
bool kjh_pfn_is_free(u32 pfn)
{
	struct page *page = pfn_to_online_page(pfn);

	return page && is_free_buddy_page(page);
}

/*
 * Whether page frames @first to @end - 1 are nobody's here: neither this kernel's RAM nor a
 * device's registers. What firmware has reserved counts as nobody's, as that is how a peer is told
 * of the other kernel's RAM. No lock: RAM is entered at boot, and a device that comes later finds
 * no place among what firmware says is reserved.
 */
bool kjh_nobodys(u32 first, u32 end)
{
	resource_size_t start = (resource_size_t)first << PAGE_SHIFT;
	resource_size_t last = ((resource_size_t)end << PAGE_SHIFT) - 1;
	struct resource *res;

	for (res = iomem_resource.child; res; res = res->sibling) {
		if (res->end < start || res->start > last)
			continue;
		/* What follows RAM is padded so that no device is put there (arch/x86/kernel/e820.c). */
		if (res->name && !strcmp(res->name, "RAM buffer"))
			continue;
		if (res->desc != IORES_DESC_RESERVED || res->child)
			return false;
	}
	return true;
}

static u32 frame_kind(struct page *page)
{
	if (!page || PageOffline(page) || PageHWPoison(page) || PageGuard(page))
		return KJH_FRAME_UNREADABLE;
	return PageBuddy(page) ? KJH_FRAME_FREE : KJH_FRAME_USED;
}

/*
 * Length of the run of frames of one kind that starts at @pfn, up to @end. A free block is known
 * by its first page alone, with its order as that page's private number (buddy_order() in
 * mm/internal.h); walking upwards meets that page first. Stable only with interrupts off on the
 * one running CPU.
 */
u32 kjh_frame_run(u32 pfn, u32 end, u32 *kind)
{
	u32 at = pfn;

	*kind = frame_kind(pfn_to_online_page(pfn));
	while (at < end) {
		struct page *page = pfn_to_online_page(at);

		if (frame_kind(page) != *kind)
			break;
		at += *kind == KJH_FRAME_FREE ? 1u << page_private(page) : 1;
	}
	return min(at, end) - pfn;
}

struct ram_ranges {
	u32 *pairs;
	u32 room;
	u32 count;
};

static int add_ram_range(struct resource *res, void *data)
{
	struct ram_ranges *ranges = data;

	if (PFN_UP(res->start) >= PFN_DOWN(res->end + 1))
		return 0;
	if (ranges->count < ranges->room) {
		ranges->pairs[2 * ranges->count] = PFN_UP(res->start);
		ranges->pairs[2 * ranges->count + 1] = PFN_DOWN(res->end + 1);
	}
	ranges->count++;
	return 0;
}

/* Pairs of first and one-past-last page frame of the kernel's RAM, ascending. */
u32 kjh_ram_ranges(u32 *pairs, u32 room)
{
	struct ram_ranges ranges = { .pairs = pairs, .room = room };

	walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY, 0, -1,
			    &ranges, add_ram_range);
	return ranges.count;
}

bool kjh_free_pages_unmapped(void)
{
	return debug_pagealloc_enabled_static();
}

/* What the allocator expects to find in free pages. */
u32 kjh_free_fill(void)
{
	if (page_poisoning_enabled_static())
		return KJH_FILL_POISON;
	if (want_init_on_free())
		return KJH_FILL_ZERO;
	return KJH_FILL_NONE;
}

void kjh_fill_page(u32 pfn, u32 how)
{
	u32 *page = kmap_local_pfn(pfn);
	u32 word = how == KJH_FILL_POISON ? PAGE_POISON * 0x01010101u : 0;
	int i;

	/* By words: memset is a `rep stosb`, which an emulator takes a byte at a time. */
	for (i = 0; i < PAGE_SIZE / sizeof(word); i++)
		WRITE_ONCE(page[i], word);
	kunmap_local(page);
}

/*
 * The kernel's own ELF note with what tools need to know to read its memory: a copy at @out, if it
 * fits @room bytes. Its size, or 0 if there is none.
 */
u32 kjh_vmcoreinfo(void *out, u32 room)
{
#ifdef CONFIG_VMCORE_INFO
	phys_addr_t phys = paddr_vmcoreinfo_note();
	const struct elf_note *note;
	u32 size;

	if (!phys || phys >= __pa(high_memory - 1))
		return 0;
	note = __va((unsigned long)phys);
	if (!note->n_namesz)
		return 0;
	size = sizeof(*note) + ALIGN(note->n_namesz, 4) + ALIGN(note->n_descsz, 4);
	if (size > room)
		return 0;
	memcpy(out, note, size);
	return size;
#else
	return 0;
#endif
}
