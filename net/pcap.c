// SPDX-License-Identifier: MIT
// Recordings of frames as a classic pcap file, with times in nanoseconds.
#include "net/pcap.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <time.h>

#define MAGIC_NS 0xa1b23c4d
#define SNAP_LEN 0x40000 /* more than any frame */
#define ETHERNET 1

struct file_header {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy, snap_len, link_type;
};

struct record {
	uint32_t seconds, nanoseconds, kept, len;
};

/* Others are not to read what a guest says to whom. */
int pcap_open(const char *path)
{
	static const struct file_header h = {.magic = MAGIC_NS,
		.major = 2,
		.minor = 4,
		.snap_len = SNAP_LEN,
		.link_type = ETHERNET};
	CLEANUP_FD int fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);

	if (fd < 0 || write(fd, &h, sizeof(h)) < 0)
		return failno(errno, "pcap %s", path);
	return steal_fd(&fd);
}

int pcap_write(int fd, struct iovec *iov, unsigned n, size_t len)
{
	struct record r = {.kept = (uint32_t)len, .len = (uint32_t)len};
	struct timespec now;
	ssize_t done;

	clock_gettime(CLOCK_REALTIME, &now);
	r.seconds = (uint32_t)now.tv_sec;
	r.nanoseconds = (uint32_t)now.tv_nsec;
	iov[0] = (struct iovec){.iov_base = &r, .iov_len = sizeof(r)};
	done = TEMP_FAILURE_RETRY(writev(fd, iov, (int)n));
	if (done < 0)
		return -errno;
	return (size_t)done == sizeof(r) + len ? 0 : -ENOSPC;
}
