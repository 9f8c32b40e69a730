// SPDX-License-Identifier: MIT
// Recordings of frames as a classic pcap file, with times in nanoseconds.
#ifndef NET_PCAP_H
#define NET_PCAP_H

#include <stddef.h>
#include <sys/uio.h>

/* Makes the file, or empties it, with its header. A descriptor that does not block, or -errno with
 * a message. */
int pcap_open(const char *path);

/* Adds a frame of `len` bytes, which iov[1] to iov[n - 1] have; iov[0] is overwritten. 0 or -errno,
 * after which the file is of no more use. */
int pcap_write(int fd, struct iovec *iov, unsigned n, size_t len);

#endif
