// SPDX-License-Identifier: MIT
// Any file as a kernel: it loads within guest memory, or is refused with a message that names it.
#include "base/log.h"
#include "base/util.h"
#include "hw/layout.h"
#include "hw/mem.h"
#include "loader/loader.h"
#include "tests/unit/unpack_here.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mem *mem;
static int fd = -1;

static int fill(void *arg, void *dst, uint64_t size)
{
	memset(dst, 0x5a, size);
	return 0;
}

static void start(void)
{
	fd = memfd_create("kernel", MFD_CLOEXEC);
	if (fd < 0 || mem_create(&mem, MIB(16), MEM_PRIVATE))
		abort();
	log_set_level(LOG_LEVEL_ERROR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char prefix[] = "kernel k: ";
	struct loader_initrd rd = {.name = "rd", .size = 4097, .fill = fill};
	struct loader_config cfg = {
		.kernel_name = "k",
		.initrd = &rd,
		.cmdline = "a",
		.zeroed = size & 1,
		.unpacker = unpacker_here(),
	};
	struct boot_entry e;
	char version[65];
	int rc;

	if (fd < 0)
		start();
	if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	cfg.kernel_fd = fd;
	rc = loader_load(mem, &cfg, &e);
	if (rc == 0 && (e.entry < LAYOUT_HIGH_RAM || !mem_get(mem, e.entry, 1)))
		abort();
	if (rc && strncmp(last_error(), prefix, sizeof(prefix) - 1) &&
		!strstr(last_error(), "initrd rd") && !strstr(last_error(), "command line"))
		abort();
	if (loader_version(fd, "k", version, sizeof(version)) &&
		strncmp(last_error(), prefix, sizeof(prefix) - 1))
		abort();
	return 0;
}
