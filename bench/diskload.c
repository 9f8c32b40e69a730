// SPDX-License-Identifier: MIT
// The guest's /init of the disk bench (bench/load.h), where a line is
//
//   DISK NAME MILLISECONDS      as in "/dev/vda rr1 1500"
//
// The load goes past the guest's page cache, by Linux' own asynchronous I/O. Operations are
// counted.
#include "bench/load.h"

#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define DEPTH_MAX 32u
#define BYTES_MAX 131072u

struct load {
	const char *name;
	unsigned depth;
	unsigned bytes;
	int random, write;
};

static const struct load loads[] = {
	{"rr1", 1, 4096, 1, 0},
	{"rw1", 1, 4096, 1, 1},
	{"rr32", 32, 4096, 1, 0},
	{"rw32", 32, 4096, 1, 1},
	{"sr8", 8, 131072, 0, 0},
	{"sw8", 8, 131072, 0, 1},
};

struct disk {
	const char *name;
	int fd;
	uint64_t size;
	aio_context_t aio;
	uint8_t *memory; /* what each operation in flight has of it: at most its `bytes` */
	uint64_t random, next;
};

static uint64_t next_offset(struct disk *d, const struct load *l)
{
	uint64_t blocks = d->size / l->bytes;

	if (!l->random)
		return d->next++ % blocks * l->bytes;
	d->random ^= d->random << 13;
	d->random ^= d->random >> 7;
	d->random ^= d->random << 17;
	return d->random % blocks * l->bytes;
}

/* Submits an operation for each of `n` slots. */
static void submit(struct disk *d, const struct load *l, const unsigned *slots, unsigned n)
{
	static struct iocb cb[DEPTH_MAX];
	struct iocb *list[DEPTH_MAX];

	for (unsigned i = 0; i < n; i++) {
		unsigned s = slots[i];

		cb[s] = (struct iocb){
			.aio_data = s,
			.aio_fildes = (uint32_t)d->fd,
			.aio_lio_opcode = l->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
			.aio_buf = (uintptr_t)(d->memory + (size_t)s * l->bytes),
			.aio_nbytes = l->bytes,
			.aio_offset = (int64_t)next_offset(d, l),
		};
		list[i] = &cb[s];
	}
	if (syscall(SYS_io_submit, d->aio, (long)n, list) != (long)n)
		die("io_submit", d->name);
}

/* Waits for `least` operations; their slots and how many there are. */
static unsigned reap(struct disk *d, const struct load *l, unsigned least, unsigned *slots)
{
	struct io_event events[DEPTH_MAX];
	long n = syscall(SYS_io_getevents, d->aio, (long)least, (long)DEPTH_MAX, events, NULL);

	if (n < (long)least)
		die("io_getevents", d->name);
	for (long i = 0; i < n; i++) {
		slots[i] = (unsigned)events[i].data;
		if (events[i].res == (int64_t)l->bytes)
			continue;
		errno = events[i].res < 0 ? (int)-events[i].res : EIO;
		die(l->write ? "writing" : "reading", d->name);
	}
	return (unsigned)n;
}

/* Keeps `depth` operations going for `ns`. Returns how many were done; *took is the time in truth.
 */
static uint64_t run(struct disk *d, const struct load *l, uint64_t ns, uint64_t *took)
{
	unsigned slots[DEPTH_MAX], n = l->depth;
	uint64_t done = 0, start = now(), end;

	for (unsigned i = 0; i < n; i++)
		slots[i] = i;
	do {
		submit(d, l, slots, n);
		n = reap(d, l, 1, slots);
		done += n;
		end = now();
	} while (end - start < ns);
	*took = end - start;
	for (unsigned left = l->depth - n; left;)
		left -= reap(d, l, 1, slots);
	return done;
}

static void open_disk(struct disk *d, const char *path)
{
	d->name = path;
	d->random = 88172645463325252ull;
	d->fd = open(path, O_RDWR | O_DIRECT);
	if (d->fd < 0 || ioctl(d->fd, BLKGETSIZE64, &d->size) < 0)
		die("opening", path);
	d->memory = mmap(NULL, DEPTH_MAX * BYTES_MAX, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (d->memory == MAP_FAILED || syscall(SYS_io_setup, DEPTH_MAX, &d->aio) < 0)
		die("memory for", path);
	memset(d->memory, 0x5a, DEPTH_MAX * BYTES_MAX);
}

static const struct load *find_load(const char *name)
{
	for (size_t i = 0; i < sizeof(loads) / sizeof(*loads); i++)
		if (!strcmp(loads[i].name, name))
			return &loads[i];
	errno = EINVAL;
	die("load", name);
}

/* The disk of that name, open since it was first asked for. */
static struct disk *find_disk(const char *path)
{
	static struct disk disks[8];
	struct disk *d = disks;

	while (d->name && strcmp(d->name, path) && d < disks + 7)
		d++;
	if (d->name && strcmp(d->name, path)) {
		errno = EMFILE;
		die("one more disk,", path);
	}
	if (!d->name)
		open_disk(d, strdup(path));
	return d;
}

static void run_load(const char *path, const char *name, uint64_t ns)
{
	struct disk *d = find_disk(path);
	const struct load *l = find_load(name);
	uint64_t took, done;

	run(d, l, WARM_NS, &took);
	begin_load();
	done = run(d, l, ns, &took);
	end_load(done, took);
}

static int serve(const char *line)
{
	char path[64], name[16];
	unsigned long long ms;

	if (sscanf(line, "%63s %15s %llu", path, name, &ms) != 3)
		return 0;
	run_load(path, name, ms * 1000000);
	return 1;
}

int main(void)
{
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	open_console();
	be_init(serve);
}
