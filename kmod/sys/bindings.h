/* SPDX-License-Identifier: GPL-2.0 */
/* Input of bindgen; Kbuild lists the functions that are let through. */
#include "helpers.h"		/* ours */
#include <linux/suspend.h>	/* lock_system_sleep, save_processor_state, PM_* */
#include <linux/syscore_ops.h>	/* syscore_suspend, syscore_resume */
#include <linux/syscalls.h>	/* ksys_sync_helper */
