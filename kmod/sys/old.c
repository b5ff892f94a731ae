// SPDX-License-Identifier: GPL-2.0
/*
 * Old memory for user space: what the kernel crate has no abstraction for, which is lseek and
 * mappings. Where a page is, and whether there is one, is kmod/old.rs's to say.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mutex.h>

#include "helpers.h"

/*
 * Mappings of old memory. While there is one, its file pins the inode whose address space
 * @old_mapping is; a second device node has to wait until the first one's mappings are gone.
 */
static DEFINE_MUTEX(old_lock);
static struct address_space *old_mapping;
static unsigned int old_areas;

static void old_open(struct vm_area_struct *vma)
{
	mutex_lock(&old_lock);
	old_areas++;
	mutex_unlock(&old_lock);
}

static void old_close(struct vm_area_struct *vma)
{
	mutex_lock(&old_lock);
	if (--old_areas == 0)
		old_mapping = NULL;
	mutex_unlock(&old_lock);
}

/* The kernel crate's operations, and lseek. Written once, before any file uses them. */
static struct file_operations seekable;

/*
 * Lets an open file be sought in, so that dd and others that do not know pread can read old memory:
 * the kernel crate gives a misc device no llseek. To be called while the file is being opened.
 */
void kjh_old_seekable(void *opened)
{
	struct file *file = opened;

	mutex_lock(&old_lock);
	if (!seekable.llseek) {
		seekable = *file->f_op;
		seekable.llseek = no_seek_end_llseek;
	}
	mutex_unlock(&old_lock);
	/* The owner is the same, so is the reference that the file has to it. */
	file->f_op = &seekable;
}

/* Pages mapped at one fault, aligned to as many: whoever reads or writes memory does so in order. */
#define AROUND 256

static vm_fault_t old_fault(struct vm_fault *vmf)
{
	unsigned long start = vmf->vma->vm_pgoff, end = start + vma_pages(vmf->vma);
	unsigned long first = round_down(vmf->pgoff, AROUND);

	return (__force vm_fault_t)kjump_old_fault(vmf, vmf->pgoff, max(first, start),
						   min(first + AROUND, end));
}

static const struct vm_operations_struct old_ops = {
	.open = old_open,
	.close = old_close,
	.fault = old_fault,
};

int kjh_old_mmap(void *opened, void *area, bool writable)
{
	struct file *file = opened;
	struct vm_area_struct *vma = area;
	int ret = 0;

	/* A private mapping is never written through: it would be copies. */
	writable = writable && (vma->vm_flags & VM_SHARED);
	if ((vma->vm_flags & VM_WRITE) && !writable)
		return -EACCES;
	mutex_lock(&old_lock);
	if (old_areas && old_mapping != file->f_mapping) {
		ret = -EBUSY;
	} else {
		old_mapping = file->f_mapping;
		old_areas++;
		vm_flags_mod(vma, VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP,
			     writable ? VM_NONE : VM_MAYWRITE);
		vma->vm_ops = &old_ops;
	}
	mutex_unlock(&old_lock);
	return ret;
}

static_assert(KJH_FAULT_MAPPED == (__force u32)VM_FAULT_NOPAGE);

u32 kjh_old_insert(void *fault, unsigned long pgoff, unsigned long pfn)
{
	struct vm_fault *vmf = fault;
	unsigned long offset = pgoff - vmf->vma->vm_pgoff;

	if (!pfn)
		return (__force u32)VM_FAULT_SIGBUS;
	return (__force u32)vmf_insert_pfn(vmf->vma, vmf->vma->vm_start + (offset << PAGE_SHIFT), pfn);
}

/* Old memory is about to be another: let every mapping fault again. */
void kjh_old_zap(void)
{
	mutex_lock(&old_lock);
	if (old_mapping)
		unmap_mapping_range(old_mapping, 0, 0, 1);
	mutex_unlock(&old_lock);
}
