// SPDX-License-Identifier: MIT
// What is done to a disk's image while the guest uses it: a copy to another image, which may take
// its place, and a new overlay on it.
//
// A copy lives as long as the socket at whose other end somebody wants it: SOCK_SEQPACKET, a word a
// packet. From here come "copied BYTES", "same" when all is copied and kept so, and at the end
// "done", or "failed" and why. From there come, after "same", "stop" or "switch"; and whoever
// closes it before the end gives it up.
#ifndef VMM_DISK_JOB_H
#define VMM_DISK_JOB_H

#include "vmm/disk.h"

/*
 * Of another image that a disk is to have: which, and its files. Both are taken, also on failure;
 * `cfg` is malloc'd.
 */
struct disk_target {
	struct disk_config *cfg;
	struct disk_files files;
};

void disk_target_finish(struct disk_target *t);

enum disk_job_kind {
	DISK_JOB_MIRROR,
	DISK_JOB_COMMIT, /* the same, to the image's own backing file */
	/* The target is an empty qcow2 image, backed by the disk's: it is put on that in an
	 * instant. */
	DISK_JOB_SNAPSHOT,
};

/* On the disk's loop, as is disk_job_end. `socket` is taken on success; a snapshot has none. 0 or
 * -errno. */
int disk_job_begin(struct disk *disk, enum disk_job_kind kind, struct disk_target *t,
	const struct disk_host *host, int socket);

/* Before the disk goes: gives up the job, if there is one. */
void disk_job_end(struct disk *disk);

#endif
