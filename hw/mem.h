// SPDX-License-Identifier: MIT
// Guest memory: the one door through which the monitor reaches it.
//
// RAM lies at [0, size) up to the hole below 4 GiB (hw/layout.h) and goes on at 4 GiB. Nothing else
// turns a guest address into a pointer; every access has a length and lies in one piece of RAM, or
// fails. Whatever the monitor writes is marked dirty here while tracking is on, completions of I/O
// included: who writes through a pointer from mem_get calls mem_dirty afterwards.
//
// All of these are safe from any thread while the memory exists. What they read may change under
// them: the guest runs. Copy once and judge the copy.
#ifndef HW_MEM_H
#define HW_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mem;
struct kvm;

enum mem_backing {
	MEM_PRIVATE, /* anonymous, private, transparent huge pages where the host grants them */
	MEM_SHARED,  /* a memfd, for sharing with another process; no huge pages on a stock host */
};

struct mem_region {
	uint64_t gpa, size; /* bytes, page aligned */
	void *host;
	uint64_t file_off; /* in mem_fd, for MEM_SHARED */
};

/* Reserves `size` bytes (page aligned, at least 1 MiB) of zeroed guest RAM. 0 or -errno. */
int mem_create(struct mem **out, uint64_t size, enum mem_backing backing);

/*
 * Small pages for the lowest 2 MiB, where huge ones are the rule: for a guest that will use little
 * of them, as the first write to a huge page clears all of it. Advice, to be given before that
 * write.
 */
void mem_use_small_pages(struct mem *m);

/* Unmaps it. The VM must be gone. NULL is fine. */
void mem_destroy(struct mem *m);

/*
 * Makes it the VM's memory. The kernel waits for a grace period for each slot, several milliseconds
 * on some hosts: to be called on a thread that has nothing else to do. 0 or -errno.
 */
int mem_attach(const struct mem *m, const struct kvm *kvm);

/* Zeroes all of it and gives it back to the host. Only while nothing uses it. 0 or -errno. */
int mem_clear(struct mem *m);

uint64_t mem_size(const struct mem *m);

/* The pieces of RAM in ascending order; *n is 1 or 2. Borrowed. */
const struct mem_region *mem_regions(const struct mem *m, unsigned *n);

/* The memfd, or -1 with MEM_PRIVATE. Borrowed. */
int mem_fd(const struct mem *m);

/* Copies in and out. -EFAULT where [gpa, gpa + len) is not all within one piece of RAM. */
int mem_read(const struct mem *m, uint64_t gpa, void *buf, size_t len);
int mem_write(struct mem *m, uint64_t gpa, const void *buf, size_t len);

/* A pointer to [gpa, gpa + len) for I/O without a copy, or NULL as above. len 0 is NULL. */
void *mem_get(const struct mem *m, uint64_t gpa, uint64_t len);

/* Marks the pages of [gpa, gpa + len) written. The range must be one that mem_get has granted. */
void mem_dirty(struct mem *m, uint64_t gpa, uint64_t len);

/* The same for a pointer that mem_get returned. */
void mem_dirty_ptr(struct mem *m, const void *ptr, uint64_t len);

/*
 * Tracking of the monitor's own writes, a bit a 4 KiB page of each region. Start clears; take
 * copies the bits of region `i` into `bits` (mem_bitmap_size bytes) and clears them. -ENOMEM from
 * start.
 */
int mem_track_start(struct mem *m);
/* Stop only while nothing writes (the machine is paused). */
void mem_track_stop(struct mem *m);
size_t mem_bitmap_size(const struct mem *m, unsigned region);
void mem_track_take(struct mem *m, unsigned region, uint64_t *bits);

#endif
