// SPDX-License-Identifier: GPL-2.0

#include <linux/capability.h>

/* Without CONFIG_MULTIUSER capable() is inline, so it is wrapped always. */
bool rust_helper_sysctl_write_allowed(void)
{
	return capable(CAP_SYS_ADMIN);
}
