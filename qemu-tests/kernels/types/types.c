// SPDX-License-Identifier: GPL-2.0
/*
 * The types, and the variables with theirs, that debuggers ask a kernel for. Compiled with debug
 * information against a test kernel, this makes an object with nothing else in it, which is added to
 * that kernel's vmlinux: the kernels themselves are built without, as that takes several times as long.
 */
#include <linux/blkdev.h>
#include <linux/fdtable.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqdesc.h>
#include <linux/kallsyms.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/net.h>
#include <linux/netdevice.h>
#include <linux/pid_namespace.h>
#include <linux/radix-tree.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/timekeeper_internal.h>
#include <linux/utsname.h>
#include <linux/vmalloc.h>
#include <linux/xarray.h>
#include <net/inet_sock.h>
#include <net/sock.h>

/* What only the kernel's own files see. */
#include "../fs/mount.h"
#include "../kernel/printk/printk_ringbuffer.h"
#include "../kernel/sched/sched.h"
#include "../mm/slab.h"

/* Two of lib/maple_tree.c, with a byte for each kind of node: crash wants to know how many. */
extern const unsigned char mt_slots[5];
extern const unsigned char mt_pivots[5];
