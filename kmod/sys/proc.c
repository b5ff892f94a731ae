// SPDX-License-Identifier: GPL-2.0
/*
 * /proc/kimgcore, for which the kernel crate has no abstraction; what is in it is kmod/kimgcore.rs's
 * to say. And /proc/vmcore, which the kernel itself made when it booted as a peer.
 */
#include <linux/crash_dump.h>
#include <linux/fs.h>
#include <linux/proc_fs.h>

#include "helpers.h"

static int kimgcore_open(struct inode *inode, struct file *file)
{
	return kjump_kimgcore_open(&file->private_data);
}

static int kimgcore_release(struct inode *inode, struct file *file)
{
	kjump_kimgcore_close(file->private_data);
	return 0;
}

static ssize_t kimgcore_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	long done;

	/* Behind the end there is nothing, but not for everybody to know. */
	if (*pos < 0 || *pos > U32_MAX)
		return kjump_kimgcore_read(file->private_data, U32_MAX, (unsigned long)buf, 0);
	done = kjump_kimgcore_read(file->private_data, *pos, (unsigned long)buf,
				   min_t(size_t, size, INT_MAX));
	if (done > 0)
		*pos += done;
	return done;
}

static const struct proc_ops kimgcore_ops = {
	.proc_open = kimgcore_open,
	.proc_release = kimgcore_release,
	.proc_read = kimgcore_read,
	.proc_lseek = default_llseek,
};

bool kjh_kimgcore_add(void)
{
	return proc_create("kimgcore", 0400, NULL, &kimgcore_ops);
}

void kjh_kimgcore_remove(void)
{
	remove_proc_entry("kimgcore", NULL);
}

/*
 * Takes /proc/vmcore away, once and for all: the kernel reads the headers at boot and never again,
 * and now other memory is behind their addresses. fs/proc/vmcore.c leaves ELFCORE_ADDR_ERR behind
 * where it has made the file; without that, asking for its removal would warn.
 */
void kjh_vmcore_hide(void)
{
#ifdef CONFIG_PROC_VMCORE
	static bool hidden;

	if (hidden || elfcorehdr_addr != ELFCORE_ADDR_ERR)
		return;
	hidden = true;
	remove_proc_entry("vmcore", NULL);
#endif
}
