// SPDX-License-Identifier: MIT
// Waits for the power button as a desktop's or server's daemon would, and powers off.
#include "tests/vm/lab/guest.h"

#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdio.h>
#include <sys/reboot.h>
#include <unistd.h>

#define DEVICES 8

static int open_inputs(struct pollfd p[DEVICES])
{
	char path[32];
	int n = 0;

	for (int i = 0; i < DEVICES; i++) {
		snprintf(path, sizeof(path), "/dev/input/event%d", i);
		p[n].fd = open(path, O_RDONLY);
		p[n].events = POLLIN;
		n += p[n].fd >= 0;
	}
	return n;
}

int tool_button(char **argv)
{
	struct pollfd p[DEVICES] = {0};
	struct input_event e;
	int n = open_inputs(p);

	printf("KVICK listens on %d input devices\n", n);
	fflush(stdout);
	while (n && poll(p, (nfds_t)n, -1) > 0) {
		for (int i = 0; i < n; i++) {
			if (!(p[i].revents & POLLIN) || read(p[i].fd, &e, sizeof(e)) != sizeof(e))
				continue;
			if (e.type != EV_KEY || e.code != KEY_POWER || !e.value)
				continue;
			puts("KVICK power button");
			fflush(stdout);
			reboot(RB_POWER_OFF);
		}
	}
	return report("no power button");
}
