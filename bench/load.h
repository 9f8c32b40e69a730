// SPDX-License-Identifier: MIT
// What the load generators are in common: each is the guest's /init and does as it is told on its
// console, a line a load.
//
// A line "load" comes before what is counted and a line "done COUNT NANOSECONDS" after it; the host
// looks at its monitor when it reads one, for which there is a rest around them. It ends with its
// input's end or an empty line.
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000ull
#define REST_NS (NS / 5)
#define WARM_NS (NS / 5)
#define LINE_MAX_BYTES 128

static inline _Noreturn void die(const char *what, const char *name)
{
	dprintf(STDOUT_FILENO, "%s %s: %s\n", what, name, strerror(errno));
	if (getpid() != 1)
		exit(1);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static inline uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static inline void begin_load(void)
{
	dprintf(STDOUT_FILENO, "load\n");
	nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
}

static inline void end_load(uint64_t count, uint64_t ns)
{
	dprintf(STDOUT_FILENO, "done %llu %llu\n", (unsigned long long)count,
		(unsigned long long)ns);
}

static inline void open_console(void)
{
	struct termios t;
	int fd = open("/dev/console", O_RDWR);

	if (fd < 0)
		return;
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	tcgetattr(fd, &t);
	t.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(fd, TCSANOW, &t);
}

/* `serve` is given a line, and returns 0 where it is none of its. */
static inline _Noreturn void be_init(int (*serve)(const char *line))
{
	char line[LINE_MAX_BYTES];

	dprintf(STDOUT_FILENO, "ready\n");
	while (fgets(line, sizeof(line), stdin) && serve(line))
		;
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

#endif
