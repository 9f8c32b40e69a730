// SPDX-License-Identifier: MIT
// A kernel's release, read from its file.
#include "base/fd.h"
#include "base/log.h"
#include "loader/elf.h"
#include "loader/image.h"
#include "loader/loader.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <sys/stat.h>

#define HEAD_SIZE 0x210
#define KERNEL_VERSION_BASE 0x200 /* kernel_version counts from there */
#define BANNER "Linux version "
#define BANNER_LEN (sizeof(BANNER) - 1)
#define RELEASE_MAX 65 /* as in struct utsname */
#define OVERLAP (BANNER_LEN + RELEASE_MAX)
#define CHUNK KIB(256)
#define MAX_SECTIONS 256

/* Copies the word that begins at `from`, if it can be a release; else false. */
static bool copy_release(const char *from, size_t avail, char *buf, size_t len)
{
	size_t n = 0;

	while (n < avail && n < RELEASE_MAX && isgraph((unsigned char)from[n]) && from[n] != '/')
		n++;
	if (n == 0 || n == avail || n >= len || n >= RELEASE_MAX ||
		!isdigit((unsigned char)from[0]))
		return false;
	memcpy(buf, from, n);
	buf[n] = '\0';
	return true;
}

static int from_bzimage(const struct image *img, char *buf, size_t len)
{
	char text[RELEASE_MAX + 1];
	struct bzimage bz;
	int rc = bzimage_parse(img, &bz);

	if (rc)
		return rc;
	if (bz.hdr.kernel_version == 0)
		return fail(
			ENOENT, "its header does not say which version it is (kernel_version 0)");
	rc = image_read(img, KERNEL_VERSION_BASE + bz.hdr.kernel_version, text, sizeof(text));
	if (rc)
		return rc;
	if (!copy_release(text, sizeof(text), buf, len))
		return fail(ENOENT, "its header (kernel_version) names no Linux release");
	return 0;
}

/* Also in a piece of a file: the format string "Linux version %s" is passed over. */
static bool find_banner(const char *p, size_t size, char *buf, size_t len)
{
	const char *end = p + size;

	while ((p = memmem(p, (size_t)(end - p), BANNER, BANNER_LEN))) {
		p += BANNER_LEN;
		if (copy_release(p, (size_t)(end - p), buf, len))
			return true;
	}
	return false;
}

/*
 * Looks in [off, end), in pieces that overlap by a banner so that one across a border is found. 1
 * when found, 0 when not, -errno.
 */
static int search(const struct image *img, uint64_t off, uint64_t end, char *buf, size_t len)
{
	char *chunk = malloc(CHUNK);
	ssize_t n = CHUNK;
	int rc = chunk ? 0 : fail(ENOMEM, "no memory to look for its version");

	for (; !rc && off < end && n == CHUNK; off += CHUNK - OVERLAP) {
		n = fd_pread_full(img->fd, chunk, MIN(CHUNK, end - off), off);
		if (n < 0)
			rc = failno((int)-n, "reading at offset %llu", (ull)off);
		else if (find_banner(chunk, (size_t)n, buf, len))
			rc = 1;
	}
	free(chunk);
	return rc;
}

/* Where .rodata is, in which Linux keeps its banner; false where the file does not say so. */
static bool find_rodata(const struct image *img, Elf64_Shdr *out)
{
	Elf64_Shdr names, *sh = out;
	Elf64_Ehdr eh;
	char name[8];

	if (fd_pread_full(img->fd, &eh, sizeof(eh), 0) != sizeof(eh) || eh.e_shnum > MAX_SECTIONS ||
		eh.e_shentsize != sizeof(*sh) || eh.e_shoff > img->size ||
		fd_pread_full(img->fd, &names, sizeof(names),
			eh.e_shoff + eh.e_shstrndx * sizeof(names)) != sizeof(names))
		return false;
	for (unsigned i = 1; i < eh.e_shnum; i++) {
		if (fd_pread_full(img->fd, sh, sizeof(*sh), eh.e_shoff + i * sizeof(*sh)) !=
				sizeof(*sh) ||
			fd_pread_full(img->fd, name, sizeof(name), names.sh_offset + sh->sh_name) !=
				sizeof(name))
			return false;
		if (memcmp(name, ".rodata", sizeof(name)) == 0)
			return range_ok(sh->sh_offset, sh->sh_size, img->size);
	}
	return false;
}

static int from_elf(const struct image *img, char *buf, size_t len)
{
	Elf64_Shdr rodata;
	int rc = 0;

	if (find_rodata(img, &rodata))
		rc = search(img, rodata.sh_offset, rodata.sh_offset + rodata.sh_size, buf, len);
	if (rc == 0)
		rc = search(img, 0, img->size, buf, len);
	return rc > 0 ? 0 : rc < 0 ? rc : fail(ENOENT, "it has no Linux version banner");
}

int loader_version(int fd, const char *name, char *buf, size_t len)
{
	struct image img = {.name = name, .fd = fd};
	uint8_t head[HEAD_SIZE];
	struct stat st;
	int rc;

	if (fstat(fd, &st) < 0)
		return failno(errno, "kernel %s", name);
	if (!S_ISREG(st.st_mode))
		return fail(EINVAL, "kernel %s: not a regular file", name);
	img.size = (uint64_t)st.st_size;
	rc = image_read(&img, 0, head, MIN(sizeof(head), img.size));
	if (!rc && bzimage_is(head, MIN(sizeof(head), img.size)))
		rc = from_bzimage(&img, buf, len);
	else if (!rc && elf_is(head, MIN(sizeof(head), img.size)))
		rc = from_elf(&img, buf, len);
	else if (!rc)
		rc = fail(EINVAL, "neither an ELF kernel (vmlinux) nor a bzImage (vmlinuz)");
	return rc ? fail_context(rc, "kernel %s", name) : 0;
}
