// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/nodemask.h>
#include <linux/vmstat.h>

/*
 * Reads a node's memory in pages: all of it, what is free, and the page cache
 * of files. Returns false, and writes nothing, if the node has no memory.
 */
bool rust_helper_node_memory(int nid, unsigned long *total, unsigned long *free,
			     unsigned long *file)
{
	struct sysinfo info;

	if (nid < 0 || nid >= MAX_NUMNODES || !node_state(nid, N_MEMORY))
		return false;

#ifdef CONFIG_NUMA
	si_meminfo_node(&info, nid);
#else
	si_meminfo(&info);
#endif
	*total = info.totalram;
	*free = info.freeram;
	*file = node_page_state(NODE_DATA(nid), NR_ACTIVE_FILE) +
		node_page_state(NODE_DATA(nid), NR_INACTIVE_FILE);
	return true;
}

/* One more than the highest node number there can be. */
int rust_helper_node_count(void)
{
	return nr_node_ids;
}
