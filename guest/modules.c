// SPDX-License-Identifier: MIT
// Loads the kernel modules that came with the initramfs.
#include "guest/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/module.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool compressed(const char *name)
{
	static const char *const suffixes[] = {".xz", ".zst", ".gz"};
	size_t n = strlen(name);

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		size_t s = strlen(suffixes[i]);

		if (n > s && !strcmp(name + n - s, suffixes[i]))
			return true;
	}
	return false;
}

/* 0 or errno. A module that is built in or loaded already is what was wanted. */
static int load(int dir, const char *name)
{
	int flags = compressed(name) ? MODULE_INIT_COMPRESSED_FILE : 0;
	int error = 0, fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno;
	if (syscall(SYS_finit_module, fd, "", flags) && errno != EEXIST)
		error = errno;
	close(fd);
	unlinkat(dir, name, 0);
	return error;
}

/* The whole of a small file and a zero byte, to be freed; NULL with errno set. */
static char *read_list(int dir)
{
	int fd = openat(dir, "list", O_RDONLY | O_CLOEXEC);
	char *text = NULL;
	struct stat st;
	ssize_t n = -1;

	if (fd < 0)
		return NULL;
	if (!fstat(fd, &st))
		text = malloc((size_t)st.st_size + 1);
	if (text)
		n = read(fd, text, (size_t)st.st_size);
	close(fd);
	if (n < 0) {
		free(text);
		return NULL;
	}
	text[n] = 0;
	return text;
}

static void load_list(struct boot *b, int dir, char *text)
{
	char *rest = text, *name;
	int error;

	while ((name = strsep(&rest, "\n"))) {
		error = *name ? load(dir, name) : 0;
		if (error)
			boot_trouble(b, "module", name, error);
	}
}

void boot_load_modules(struct boot *b, const char *path)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *text;

	if (dir < 0)
		return; /* a kernel with all it needs built in */
	text = read_list(dir);
	if (text)
		load_list(b, dir, text);
	else
		boot_trouble(b, "list of modules in", path, errno);
	free(text);
	close(dir);
}
