// SPDX-License-Identifier: MIT
// A device of the host with sectors of 4 KiB, over a file.
#ifndef TESTS_UNIT_LOOP_DEVICE_H
#define TESTS_UNIT_LOOP_DEVICE_H

#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Gone with its last descriptor; -1 where the host gives none. */
static inline int loop_device(int file)
{
	struct loop_config c = {
		.fd = (uint32_t)file, .block_size = 4096, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd, n;
	char path[32];

	if (control < 0)
		return -1;
	n = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	snprintf(path, sizeof(path), "/dev/loop%d", n);
	fd = n < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &c) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

#endif
