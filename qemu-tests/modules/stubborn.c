// SPDX-License-Identifier: GPL-2.0
/*
 * A device whose driver does not do as it is told: in the phase that /sys/module/stubborn/parameters
 * names, its callback fails, or does not return for so many seconds (0: ever).
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/pm.h>
#include <linux/string.h>

static char phase[32];
module_param_string(phase, phase, sizeof(phase), 0644);
MODULE_PARM_DESC(phase, "freeze, freeze_late, freeze_noirq, thaw or restore; empty: none");

static bool hang;
module_param(hang, bool, 0644);
MODULE_PARM_DESC(hang, "Do not return, rather than fail");

static uint seconds;
module_param(seconds, uint, 0644);
MODULE_PARM_DESC(seconds, "For how long it does not return; 0: for ever");

static int act(const char *now)
{
	uint left = seconds;

	if (!sysfs_streq(phase, now))
		return 0;
	if (!hang)
		return -EIO;
	do {
		ssleep(1);
	} while (!seconds || --left);
	return 0;
}

static int stubborn_freeze(struct device *dev)
{
	return act("freeze");
}

static int stubborn_freeze_late(struct device *dev)
{
	return act("freeze_late");
}

static int stubborn_freeze_noirq(struct device *dev)
{
	return act("freeze_noirq");
}

static int stubborn_thaw(struct device *dev)
{
	return act("thaw");
}

static int stubborn_restore(struct device *dev)
{
	return act("restore");
}

static const struct dev_pm_ops stubborn_pm = {
	.freeze = stubborn_freeze,
	.freeze_late = stubborn_freeze_late,
	.freeze_noirq = stubborn_freeze_noirq,
	.thaw = stubborn_thaw,
	.restore = stubborn_restore,
};

static int stubborn_probe(struct platform_device *pdev)
{
	return 0;
}

static struct platform_driver stubborn_driver = {
	.probe = stubborn_probe,
	.driver = {
		.name = "stubborn",
		.pm = &stubborn_pm,
	},
};

static struct platform_device *device;

static int __init stubborn_init(void)
{
	int ret = platform_driver_register(&stubborn_driver);

	if (ret)
		return ret;
	device = platform_device_register_simple("stubborn", 0, NULL, 0);
	if (IS_ERR(device)) {
		platform_driver_unregister(&stubborn_driver);
		return PTR_ERR(device);
	}
	return 0;
}

static void __exit stubborn_exit(void)
{
	platform_device_unregister(device);
	platform_driver_unregister(&stubborn_driver);
}

module_init(stubborn_init);
module_exit(stubborn_exit);
MODULE_AUTHOR("The kjump authors");
MODULE_DESCRIPTION("A device that does not freeze, for kjump's tests");
MODULE_LICENSE("GPL");
