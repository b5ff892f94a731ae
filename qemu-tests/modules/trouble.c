// SPDX-License-Identifier: GPL-2.0
/*
 * trouble.ko: kernel bugs that a test sets off, by a word written to /proc/trouble. Reading tells
 * what there is: the address of struct trouble, and the numbers in its list.
 *
 * The list is walked under a lock, which a task that dies on the way keeps.
 */
#include <linux/list.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/panic.h>
#include <linux/platform_device.h>
#include <linux/pm.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#define ITEMS 5
/* Nobody's: in the first page, which is not mapped. */
#define NOWHERE ((struct list_head *)0x150)

struct trouble_item {
	struct list_head link;
	u32 number;
};

struct trouble {
	struct mutex lock;
	struct list_head items;
	u32 corrupted;
	struct trouble_item item[ITEMS];
};

static struct trouble *trouble;

static bool panic_on_restore;
module_param(panic_on_restore, bool, 0600);
MODULE_PARM_DESC(panic_on_restore, "Panic when devices come back after a jump");

/* What the list holds, one line; dies on the way where it is corrupted. */
static void walk(struct seq_file *m)
{
	struct trouble_item *item;
	u32 sum = 0;

	mutex_lock(&trouble->lock);
	list_for_each_entry(item, &trouble->items, link) {
		sum += item->number;
		if (m)
			seq_printf(m, " %u", item->number);
	}
	mutex_unlock(&trouble->lock);
	pr_info("trouble: the numbers' sum is %u\n", sum);
}

static int show(struct seq_file *m, void *unused)
{
	seq_printf(m, "at %lx corrupted %u numbers", (unsigned long)trouble, trouble->corrupted);
	walk(m);
	seq_putc(m, '\n');
	return 0;
}

static int open(struct inode *inode, struct file *file)
{
	return single_open(file, show, NULL);
}

static ssize_t write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	char word[16] = "";

	if (count >= sizeof(word))
		return -EINVAL;
	if (copy_from_user(word, buf, count))
		return -EFAULT;
	strim(word);
	if (!strcmp(word, "corrupt")) {
		trouble->corrupted = 1;
		trouble->item[2].link.next = NOWHERE;
	} else if (!strcmp(word, "walk")) {
		walk(NULL);
	} else if (!strcmp(word, "oops")) {
		mutex_lock(&trouble->lock);
		*(volatile u32 *)NOWHERE = 1;
	} else if (!strcmp(word, "panic")) {
		panic("trouble: as was asked for");
	} else {
		return -EINVAL;
	}
	return count;
}

static const struct proc_ops ops = {
	.proc_open = open,
	.proc_read = seq_read,
	.proc_write = write,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

/* A device, so that there is something that panics while devices come back. */
static int restore(struct device *dev)
{
	if (panic_on_restore)
		panic("trouble: a device does not come back");
	return 0;
}

static const struct dev_pm_ops pm_ops = {
	.restore = restore,
};

static struct platform_driver driver = {
	.driver = {
		.name = "trouble",
		.pm = &pm_ops,
	},
};

static struct platform_device *device;

static int __init trouble_init(void)
{
	int i, err;

	/* In the direct map, where a debugger of a core finds it without page tables. */
	trouble = kzalloc(sizeof(*trouble), GFP_KERNEL);
	if (!trouble)
		return -ENOMEM;
	mutex_init(&trouble->lock);
	INIT_LIST_HEAD(&trouble->items);
	for (i = 0; i < ITEMS; i++) {
		trouble->item[i].number = i + 1;
		list_add_tail(&trouble->item[i].link, &trouble->items);
	}
	err = platform_driver_register(&driver);
	if (err)
		goto no_driver;
	device = platform_device_register_simple("trouble", -1, NULL, 0);
	if (IS_ERR(device)) {
		err = PTR_ERR(device);
		goto no_device;
	}
	err = -ENOMEM;
	if (!proc_create("trouble", 0600, NULL, &ops))
		goto no_file;
	return 0;

no_file:
	platform_device_unregister(device);
no_device:
	platform_driver_unregister(&driver);
no_driver:
	kfree(trouble);
	return err;
}

static void __exit trouble_exit(void)
{
	remove_proc_entry("trouble", NULL);
	platform_device_unregister(device);
	platform_driver_unregister(&driver);
	kfree(trouble);
}

module_init(trouble_init);
module_exit(trouble_exit);
MODULE_DESCRIPTION("Kernel bugs that a test sets off");
MODULE_LICENSE("GPL");
