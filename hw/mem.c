// SPDX-License-Identifier: MIT
// Guest memory: reservation, the VM's slots, checked access, the monitor's dirty pages.
#include "hw/mem.h"

#include "base/fd.h"
#include "base/log.h"
#include "hw/kvm.h"
#include "hw/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#define PAGE 4096u
#define HUGE_PAGE MIB(2)
#define MAX_REGIONS 2

struct mem {
	struct mem_region region[MAX_REGIONS];
	uint64_t *dirty[MAX_REGIONS]; /* NULL while not tracked */
	unsigned count;
	uint64_t size;
	int fd;
};

/* An anonymous reservation at a huge-page boundary: the guest's 2 MiB pages are to be the host's.
 */
static void *reserve_aligned(uint64_t size)
{
	uint64_t span = size + HUGE_PAGE;
	char *p = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t head;

	if (p == MAP_FAILED)
		return NULL;
	head = align_up((uintptr_t)p, HUGE_PAGE) - (uintptr_t)p;
	if (head)
		munmap(p, head);
	munmap(p + head + size, span - head - size);
	return p + head;
}

static int map_region(struct mem *m, struct mem_region *r)
{
	int flags = m->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	void *at = reserve_aligned(r->size);
	void *p;

	if (!at)
		return -errno;
	p = mmap(at, r->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED | MAP_NORESERVE, m->fd,
		(off_t)r->file_off);
	if (p == MAP_FAILED) {
		munmap(at, r->size);
		return -errno;
	}
	r->host = p;
	/* Both are advice: where the kernel lacks the one or the other, nothing is lost but speed.
	 */
	madvise(p, r->size, MADV_HUGEPAGE);
	madvise(p, r->size, MADV_DONTDUMP);
	return 0;
}

static void plan_regions(struct mem *m)
{
	uint64_t low = MIN(m->size, LAYOUT_HOLE_START);

	m->region[m->count++] = (struct mem_region){.gpa = 0, .size = low};
	if (m->size > low)
		m->region[m->count++] = (struct mem_region){
			.gpa = LAYOUT_HOLE_END, .size = m->size - low, .file_off = low};
}

static int check_size(uint64_t size)
{
	struct sysinfo si;
	uint64_t host;

	if (size < MIB(1) || size % PAGE)
		return fail(EINVAL,
			"guest memory of %llu bytes: at least 1 MiB, in whole 4 KiB pages",
			(unsigned long long)size);
	if (sysinfo(&si) < 0)
		return failno(errno, "sysinfo");
	host = (uint64_t)si.totalram * si.mem_unit;
	if (size > host)
		return fail(ENOMEM,
			"guest memory of %llu MiB: this host has %llu MiB; use a smaller --memory",
			(unsigned long long)(size >> 20), (unsigned long long)(host >> 20));
	return 0;
}

static int open_memfd(struct mem *m)
{
	m->fd = memfd_create("guest-ram", MFD_CLOEXEC);
	if (m->fd < 0 || ftruncate(m->fd, (off_t)m->size) < 0)
		return failno(errno, "memfd for %llu MiB of guest memory",
			(unsigned long long)(m->size >> 20));
	return 0;
}

int mem_create(struct mem **out, uint64_t size, enum mem_backing backing)
{
	struct mem *m;
	int rc = check_size(size);

	if (rc)
		return rc;
	m = calloc(1, sizeof(*m));
	if (!m)
		return fail(ENOMEM, "no memory for the guest's memory map");
	m->size = size;
	m->fd = -1;
	plan_regions(m);
	if (backing == MEM_SHARED)
		rc = open_memfd(m);
	for (unsigned i = 0; !rc && i < m->count; i++) {
		rc = map_region(m, &m->region[i]);
		if (rc)
			failno(-rc, "reserving %llu MiB of guest memory",
				(unsigned long long)(m->region[i].size >> 20));
	}
	if (rc) {
		mem_destroy(m);
		return rc;
	}
	*out = m;
	return 0;
}

void mem_use_small_pages(struct mem *m)
{
	madvise(m->region[0].host, MIN(HUGE_PAGE, m->region[0].size), MADV_NOHUGEPAGE);
}

void mem_destroy(struct mem *m)
{
	if (!m)
		return;
	mem_track_stop(m);
	for (unsigned i = 0; i < m->count; i++)
		if (m->region[i].host)
			munmap(m->region[i].host, m->region[i].size);
	if (m->fd >= 0)
		close(m->fd);
	free(m);
}

int mem_attach(const struct mem *m, const struct kvm *kvm)
{
	for (unsigned i = 0; i < m->count; i++) {
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.guest_phys_addr = m->region[i].gpa,
			.memory_size = m->region[i].size,
			.userspace_addr = (uintptr_t)m->region[i].host,
		};

		if (ioctl(kvm->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return failno(errno, "giving the VM %llu MiB of memory",
				(unsigned long long)(m->size >> 20));
	}
	return 0;
}

int mem_clear(struct mem *m)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	if (m->fd >= 0 && fallocate(m->fd, punch, 0, (off_t)m->size) < 0)
		return failno(errno, "clearing the guest's memory");
	for (unsigned i = 0; i < m->count; i++) {
		if (m->fd < 0 && madvise(m->region[i].host, m->region[i].size, MADV_DONTNEED) < 0)
			return failno(errno, "clearing the guest's memory");
		mem_dirty(m, m->region[i].gpa, m->region[i].size);
	}
	return 0;
}

uint64_t mem_size(const struct mem *m)
{
	return m->size;
}

const struct mem_region *mem_regions(const struct mem *m, unsigned *n)
{
	*n = m->count;
	return m->region;
}

int mem_fd(const struct mem *m)
{
	return m->fd;
}

void *mem_get(const struct mem *m, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < m->count && len; i++) {
		const struct mem_region *r = &m->region[i];

		if (gpa >= r->gpa && range_ok(gpa - r->gpa, len, r->size))
			return (char *)r->host + (gpa - r->gpa);
	}
	return NULL;
}

static int no_such_memory(uint64_t gpa, size_t len)
{
	return fail(
		EFAULT, "guest address 0x%llx, %zu bytes: not RAM", (unsigned long long)gpa, len);
}

int mem_read(const struct mem *m, uint64_t gpa, void *buf, size_t len)
{
	const void *p = mem_get(m, gpa, len);

	if (!p && len)
		return no_such_memory(gpa, len);
	if (len)
		memcpy(buf, p, len);
	return 0;
}

int mem_write(struct mem *m, uint64_t gpa, const void *buf, size_t len)
{
	void *p = mem_get(m, gpa, len);

	if (!p && len)
		return no_such_memory(gpa, len);
	if (len) {
		memcpy(p, buf, len);
		mem_dirty(m, gpa, len);
	}
	return 0;
}

static void set_bits(uint64_t *bits, uint64_t first, uint64_t last)
{
	for (uint64_t page = first; page <= last; page++)
		__atomic_fetch_or(&bits[page / 64], 1ull << (page % 64), __ATOMIC_RELAXED);
}

void mem_dirty(struct mem *m, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < m->count && len; i++) {
		uint64_t *bits = __atomic_load_n(&m->dirty[i], __ATOMIC_ACQUIRE);
		uint64_t off = gpa - m->region[i].gpa;

		if (bits && gpa >= m->region[i].gpa && range_ok(off, len, m->region[i].size))
			set_bits(bits, off / PAGE, (off + len - 1) / PAGE);
	}
}

void mem_dirty_ptr(struct mem *m, const void *ptr, uint64_t len)
{
	for (unsigned i = 0; i < m->count; i++) {
		const struct mem_region *r = &m->region[i];
		uint64_t off = (uintptr_t)ptr - (uintptr_t)r->host;

		if ((uintptr_t)ptr >= (uintptr_t)r->host && range_ok(off, len, r->size))
			mem_dirty(m, r->gpa + off, len);
	}
}

size_t mem_bitmap_size(const struct mem *m, unsigned region)
{
	return align_up(m->region[region].size / PAGE, 64) / 8;
}

int mem_track_start(struct mem *m)
{
	for (unsigned i = 0; i < m->count; i++) {
		uint64_t *bits = m->dirty[i] ? m->dirty[i] : malloc(mem_bitmap_size(m, i));

		if (!bits)
			return fail(ENOMEM, "no memory to track written pages");
		memset(bits, 0, mem_bitmap_size(m, i));
		__atomic_store_n(&m->dirty[i], bits, __ATOMIC_RELEASE);
	}
	return 0;
}

void mem_track_stop(struct mem *m)
{
	for (unsigned i = 0; i < m->count; i++) {
		free(m->dirty[i]);
		m->dirty[i] = NULL;
	}
}

void mem_track_take(struct mem *m, unsigned region, uint64_t *bits)
{
	for (size_t i = 0; i < mem_bitmap_size(m, region) / 8; i++)
		bits[i] = __atomic_exchange_n(&m->dirty[region][i], 0, __ATOMIC_RELAXED);
}
