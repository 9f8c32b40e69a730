// SPDX-License-Identifier: MIT
// The formats that are known, their libraries, and buffers to unpack with.
#include "loader/unpack.h"

#include "base/log.h"
#include "base/util.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/mman.h>

static const struct unpack_format *const formats[] = {
	&unpack_lz4, &unpack_gzip, &unpack_zstd, &unpack_xz};

const struct unpack_format *unpack_detect(const void *head, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (len >= formats[i]->magic_len &&
			memcmp(head, formats[i]->magic, formats[i]->magic_len) == 0)
			return formats[i];
	return NULL;
}

void *unpack_load(const struct unpack_format *f)
{
	void *library = dlopen(f->library, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		fail(ENOTSUP, "unpacking %s needs %s, which this host lacks (Debian package %s)",
			f->name, f->library, f->package);
	return library;
}

void unpack_unload(void *library)
{
	dlclose(library);
}

void *unpack_buffer(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, size, MADV_HUGEPAGE); /* advice: without it, it is only slower */
	return p;
}

void unpack_buffer_free(void *p, size_t size)
{
	if (p)
		munmap(p, size);
}
