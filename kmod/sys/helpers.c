// SPDX-License-Identifier: GPL-2.0
/*
 * The C side of kmod/sys: see helpers.h for why it is there. No policy here.
 */
#include <linux/acpi.h>
#include <linux/capability.h>
#include <linux/delay.h>
#include <linux/cpu.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/panic_notifier.h>
#include <linux/pci.h>
#include <linux/pm.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/sched/debug.h>
#include <linux/security.h>
#include <linux/suspend.h>
#include <linux/utsname.h>
#include <linux/workqueue.h>
#include <asm/msr.h>
#include <asm/tsc.h>

#include "helpers.h"

#ifndef CONFIG_HIBERNATE_CALLBACKS
#error "kjump needs CONFIG_HIBERNATION: without HIBERNATE_CALLBACKS the device callbacks for FREEZE and RESTORE are empty, and a jump would leave devices live"
#endif

/* ---- devices' registers, other kernels' memory ---- */

/*
 * By name, which the kernel's own walks do not offer. No lock: what is looked for (IO-APICs, HPET)
 * is entered at boot and stays.
 */
static struct resource *find_resource(struct resource *res, const char *prefix, u32 *index)
{
	for (; res; res = res->sibling) {
		struct resource *found;

		if (res->name && !strncmp(res->name, prefix, strlen(prefix)) && (*index)-- == 0)
			return res;
		found = find_resource(res->child, prefix, index);
		if (found)
			return found;
	}
	return NULL;
}

bool kjh_find_resource(const char *prefix, u32 index, u32 *start)
{
	struct resource *res = find_resource(iomem_resource.child, prefix, &index);

	if (!res || res->start > U32_MAX)
		return false;
	*start = res->start;
	return true;
}

void *kjh_ioremap(u32 phys, u32 size)
{
	return (void __force *)ioremap(phys, size);
}

void kjh_iounmap(void *virt)
{
	iounmap((void __iomem *)virt);
}

u32 kjh_read32(const void *virt)
{
	return readl((const void __iomem *)virt);
}

void kjh_write32(void *virt, u32 value)
{
	writel(value, (void __iomem *)virt);
}

void *kjh_memremap(u32 phys, u32 size)
{
	return memremap(phys, size, MEMREMAP_WB);
}

void kjh_memunmap(void *virt)
{
	memunmap(virt);
}

/* Functions that may master the bus, bridges excepted: what is behind one is in the list. */
u32 kjh_bus_masters(u32 *out, u32 room)
{
	struct pci_dev *dev = NULL;
	u32 n = 0;

	for_each_pci_dev(dev) {
		if (pci_domain_nr(dev->bus) || (dev->class >> 16) == PCI_BASE_CLASS_BRIDGE)
			continue;
		if (n < room)
			out[n] = dev->bus->number << 8 | dev->devfn;
		n++;
	}
	return n;
}

/* ---- the way down and back ---- */

int kjh_devices_freeze(void)
{
	return dpm_suspend_start(PMSG_FREEZE);
}

int kjh_devices_freeze_late(void)
{
	return dpm_suspend_end(PMSG_FREEZE);
}

/* RESTORE finds devices in any state; RECOVER is for those that were left as we froze them. */
void kjh_devices_resume_early(bool peer_ran)
{
	dpm_resume_start(peer_ran ? PMSG_RESTORE : PMSG_RECOVER);
}

void kjh_devices_resume(bool peer_ran)
{
	dpm_resume_end(peer_ran ? PMSG_RESTORE : PMSG_RECOVER);
}

/*
 * vprintk_emit() decides to wake a console's thread, stores the message, and wakes the thread; if
 * console_suspend_all() comes between the first and the last, nbcon_kthreads_wake() warns (7.3.4,
 * kernel/printk/nbcon.c:1325; seen when a work item printed just then). console_suspend_all()
 * waits for what is pending, and so is woken just when such a printer is preempted. With nothing
 * pending it does not wait: the messages of the freezer get this long to be printed.
 */
void kjh_let_printers_finish(void)
{
	msleep(10);
}

static void (*patience_console)(void);
static struct task_struct *patience_task;

static void patience_is_over(struct work_struct *work)
{
	/* Or nobody would read what follows. */
	if (patience_console)
		patience_console();
	pr_emerg("kjump: a device's driver does not return; the jump waits here:\n");
	sched_show_task(patience_task);
	panic("kjump: devices do not get ready in time (device_timeout)");
}

static DECLARE_DELAYED_WORK(patience, patience_is_over);

/*
 * From now on the caller may take @seconds; 0 when it is done. Its devices' callbacks cannot be
 * called off: a driver that is stuck holds its device and the list of all. So the end is a panic,
 * as with the kernel's own DPM_WATCHDOG. Not on a queue that the freezer stops.
 */
void kjh_patience(u32 seconds, void *console_resume)
{
	if (seconds) {
		patience_console = console_resume;
		patience_task = current;
		schedule_delayed_work(&patience, seconds * HZ);
	} else {
		cancel_delayed_work_sync(&patience);
	}
}

/*
 * As hibernation does (create_image() in kernel/power/hibernate.c): in that state syscore callbacks
 * may call what could sleep at other times, such as ACPI's interrupt router, unwarned.
 */
void kjh_irq_disable(void)
{
	local_irq_disable();
	system_state = SYSTEM_SUSPEND;
}

void kjh_irq_enable(void)
{
	system_state = SYSTEM_RUNNING;
	local_irq_enable();
}

/* An online CPU that is not the first one, or -1. */
int kjh_next_secondary_cpu(void)
{
	int cpu = cpumask_next(0, cpu_online_mask);

	return cpu < nr_cpu_ids ? cpu : -1;
}

u32 kjh_online_cpus(void)
{
	return num_online_cpus();
}

/* Without hotplug there is one CPU, and nobody asks. */
int kjh_remove_cpu(u32 cpu)
{
#ifdef CONFIG_HOTPLUG_CPU
	return remove_cpu(cpu);
#else
	return -EOPNOTSUPP;
#endif
}

int kjh_add_cpu(u32 cpu)
{
#ifdef CONFIG_HOTPLUG_CPU
	return add_cpu(cpu);
#else
	return -EOPNOTSUPP;
#endif
}

/*
 * A peer with ACPI takes the fixed events and GPEs for itself. What hibernation does when its image
 * is back (acpi_hibernation_leave() and _finish() in drivers/acpi/sleep.c) gives them back to us.
 */
void kjh_acpi_reenable(void)
{
#ifdef CONFIG_ACPI
	if (acpi_disabled)
		return;
	acpi_enable();
	acpi_leave_sleep_state_prep(ACPI_STATE_S4);
#endif
}

void kjh_acpi_wake(void)
{
#ifdef CONFIG_ACPI
	if (!acpi_disabled)
		acpi_leave_sleep_state(ACPI_STATE_S4);
#endif
}

/* ---- the rest ---- */

/*
 * The addresses of functions that are not exported: a disabled kprobe resolves a name and patches
 * no text. What is not found stays as it is in `found`, without kprobes all. In one go, as
 * unregistering waits for all CPUs. False without memory.
 */
bool kjh_lookup(const char (*names)[KJH_NAME_SIZE], void **found, u32 count)
{
#ifdef CONFIG_KPROBES
	struct kprobe *probes = kcalloc(count, sizeof(*probes), GFP_KERNEL);
	struct kprobe **registered = kcalloc(count, sizeof(*registered), GFP_KERNEL);
	bool enough = probes && registered;
	u32 i, n = 0;

	for (i = 0; enough && i < count; i++) {
		probes[i].symbol_name = names[i];
		probes[i].flags = KPROBE_FLAG_DISABLED;
		if (register_kprobe(&probes[i]))
			continue;
		found[i] = probes[i].addr;
		registered[n++] = &probes[i];
	}
	unregister_kprobes(registered, n);
	kfree(registered);
	kfree(probes);
	return enough;
#else
	return true;
#endif
}

bool kjh_capable(void)
{
	return capable(CAP_SYS_BOOT);
}

int kjh_locked_down(void)
{
	return security_locked_down(LOCKDOWN_KEXEC);
}

const char *kjh_release(void)
{
	return init_utsname()->release;
}

u32 kjh_task_pid(void)
{
	return task_pid_nr(current);
}

void kjh_random(void *out, u32 size)
{
	get_random_bytes(out, size);
}

u32 kjh_tsc_khz(void)
{
	return tsc_khz;
}

bool kjh_read_msr(u32 msr, u32 *low, u32 *high)
{
	u64 value;

	if (rdmsrq_safe(msr, &value))
		return false;
	*low = value;
	*high = value >> 32;
	return true;
}

static int panicked(struct notifier_block *nb, unsigned long action, void *message)
{
	kjump_panicked(message);
	return NOTIFY_DONE;
}

static struct notifier_block panic_block = {
	.notifier_call = panicked,
	/* after those that print */
	.priority = INT_MIN,
};

void kjh_watch_panics(bool on)
{
	if (on)
		atomic_notifier_chain_register(&panic_notifier_list, &panic_block);
	else
		atomic_notifier_chain_unregister(&panic_notifier_list, &panic_block);
}
