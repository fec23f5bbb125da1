// SPDX-License-Identifier: GPL-2.0-only
/* A module of two C files: /proc/sample_c shows the square of a parameter and the kernel release. */

#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/utsname.h>

#include "square.h"

static uint side = 12;
module_param(side, uint, 0444);
MODULE_PARM_DESC(side, "number to square");

static int show(struct seq_file *file, void *unused)
{
	seq_printf(file, "%u on %s\n", square(side), utsname()->release);
	return 0;
}

static int __init sample_init(void)
{
	return proc_create_single("sample_c", 0444, NULL, show) ? 0 : -ENOMEM;
}
module_init(sample_init);

static void __exit sample_exit(void)
{
	remove_proc_entry("sample_c", NULL);
}
module_exit(sample_exit);

MODULE_AUTHOR("solana-talos maintainers");
MODULE_DESCRIPTION("Sample of an out-of-tree module in C");
MODULE_LICENSE("GPL");
