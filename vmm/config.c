// SPDX-License-Identifier: MIT
// The table of everything that can be said about a machine, and what must hold between the values.
#include "vmm/config.h"
#include "base/fd.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/engine.h"
#include "hw/mem.h"
#include "vmm/disk_config.h"
#include "vmm/machine.h"
#include "vmm/net_config.h"
#include "vmm/places.h"
#include "vmm/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

#define BOOT CONFIG_BOOT
#define RUN CONFIG_RUN
#define BOTH (CONFIG_BOOT | CONFIG_RUN)
#define AT(member) .offset = offsetof(struct config, member)

#define MEMORY_MIN MIB(1)
#define MEMORY_MAX (GIB(1) << 10)
#define SECONDS_MAX (1000000000ull * NSEC_PER_SEC)
#define CONFIG_DEVICES 2u /* vsock and rng */
#define TRANSPORT_AUTO 2u /* beside enum machine_transport: one of these is to be chosen */

static const char *const backings[] = {[MEM_PRIVATE] = "private", [MEM_SHARED] = "shared", NULL};
static const char *const transports[] = {
	[TRANSPORT_MMIO] = "mmio", [TRANSPORT_PCI] = "pci", [TRANSPORT_AUTO] = "auto", NULL};
static const char *const reboots[] = {
	[ON_REBOOT_EXIT] = "exit", [ON_REBOOT_RESTART] = "restart", NULL};
static const char *const filters[] = {
	[JAIL_KILL] = "kill", [JAIL_LOG] = "log", [JAIL_OFF] = "off", NULL};

static const struct field table[] = {
	{"kernel", "FILE",
		"the guest's kernel: a bzImage or a vmlinux; without it "
		"$KVICK_KERNEL, the cached one, or the host's own",
		AT(kernel), .type = FIELD_STRING, .commands = BOTH, .letter = 'k'},
	{"initrd", "FILE", "an initial RAM disk", AT(initrd), .type = FIELD_STRING,
		.commands = BOOT, .letter = 'i'},
	{"rootfs", "ROOT",
		"the guest's root: a directory, packed into its memory, or an image (the file's "
		"name, or the keys of --disk); without it the cached busybox one",
		AT(rootfs), .type = FIELD_STRING, .commands = RUN, .letter = 'r'},
	{"modules", "DIR",
		"kernel modules: a lib/modules/VERSION; without it the one beside "
		"the kernel, or the host's",
		AT(modules), .type = FIELD_STRING, .commands = RUN},
	{"append", "WORDS", "words for the end of the kernel's command line", AT(append),
		.type = FIELD_STRING, .commands = BOTH, .letter = 'a'},
	{"cpus", "N", "virtual CPUs", AT(cpus), .type = FIELD_U32, .fallback = "1", .min = 1,
		.max = 254, .commands = BOTH, .letter = 'c'},
	{"memory", "SIZE", "memory, in MiB or with a suffix K, M, G or T", AT(memory),
		.type = FIELD_SIZE, .fallback = "256M", .min = MEMORY_MIN, .max = MEMORY_MAX,
		.commands = BOOT, .letter = 'm'},
	{"memory", "SIZE",
		"memory, in MiB or with a suffix K, M, G or T; more by itself when "
		"the root needs it",
		AT(memory), .type = FIELD_SIZE, .fallback = "512M", .min = MEMORY_MIN,
		.max = MEMORY_MAX, .commands = RUN, .letter = 'm'},
	{"memory-backing", "KIND", "what the guest's memory is on the host", AT(memory_backing),
		.type = FIELD_ENUM, .names = backings, .fallback = "private", .commands = BOTH},
	{"console", "WHERE", "the serial console: serial (this terminal), off, or file:PATH",
		AT(console), .type = FIELD_STRING, .fallback = "serial", .commands = BOOT},
	{"console", "WHERE", "kernel messages: serial (stderr), off, or file:PATH", AT(console),
		.type = FIELD_STRING, .fallback = "off", .commands = RUN},
	{"env", "NAME[=VALUE]",
		"a variable for the command, or one of this environment to "
		"pass; may be repeated",
		AT(env), .type = FIELD_LIST, .commands = RUN, .letter = 'e'},
	{"workdir", "DIR", "the command's working directory in the guest", AT(workdir),
		.type = FIELD_STRING, .fallback = "/", .commands = RUN, .letter = 'w'},
	{"hostname", "NAME", "the guest's host name; without it the VM's name", AT(hostname),
		.type = FIELD_STRING, .commands = RUN},
	{"no-stdin", NULL, "give the command no standard input", AT(no_stdin), .type = FIELD_FLAG,
		.commands = RUN, .letter = 'n'},
	{"no-stdin", NULL, "give the console no input", AT(no_stdin), .type = FIELD_FLAG,
		.commands = BOOT, .letter = 'n'},
	{"timeout", "SECONDS", "end the VM when the command has run this long; 0: never",
		AT(timeout_ns), .type = FIELD_SECONDS, .fallback = "0", .max = SECONDS_MAX,
		.commands = RUN, .letter = 't'},
	{"timeout", "SECONDS", "end the VM after this long; 0: never", AT(timeout_ns),
		.type = FIELD_SECONDS, .fallback = "0", .max = SECONDS_MAX, .commands = BOOT,
		.letter = 't'},
	{"boot-timeout", "SECONDS",
		"how long the guest may take until the command starts; 0: "
		"any time",
		AT(boot_timeout_ns), .type = FIELD_SECONDS, .fallback = "60", .max = SECONDS_MAX,
		.commands = RUN},
	{"on-reboot", "WHAT", "when the guest resets", AT(on_reboot), .type = FIELD_ENUM,
		.names = reboots, .fallback = "exit", .commands = BOOT},
	{"name", "NAME", "what ps and stop call the VM; without it one is made up", AT(name),
		.type = FIELD_STRING, .commands = BOTH},
	{"cid", "N", "the guest's vsock address", AT(cid), .type = FIELD_U32, .fallback = "3",
		.min = CONFIG_CID_MIN, .max = UINT32_MAX - 1, .commands = BOTH},
	{"transport", "KIND",
		"what the guest's virtio devices are on; auto is pci for a machine with --disk or "
		"--net tap, and mmio, where there is less to look for, for one without",
		AT(transport), .type = FIELD_ENUM, .names = transports, .fallback = "auto",
		.commands = BOTH},
	{"seccomp", "MODE", "on a system call that the filter forbids", AT(seccomp),
		.type = FIELD_ENUM, .names = filters, .fallback = "kill", .commands = BOTH},
	{"allow-software-kvm", NULL,
		"start even where KVM is software that cannot run stock "
		"guests",
		AT(allow_software_kvm), .type = FIELD_FLAG, .commands = BOTH},
	{"disk", "KEYS", "a disk, path=FILE and what is told below; may be repeated", AT(disk),
		.type = FIELD_LIST, .commands = BOTH, .letter = 'd'},
	{"net", "KIND", "a NIC: its kind, and keys as told below; may be repeated", AT(net),
		.type = FIELD_LIST, .commands = BOOT},
	{"net", "KIND",
		"a NIC: its kind, and keys as told below; may be repeated; without it user, and "
		"with none there is no NIC",
		AT(net), .type = FIELD_LIST, .commands = RUN},
	{"publish", "PORTS",
		"[ADDRESS:]HOSTPORT:GUESTPORT[/udp]: who connects to the host's port, of 127.0.0.1 "
		"unless an address is given, reaches the guest's; may be repeated",
		AT(publish), .type = FIELD_LIST, .commands = BOTH, .letter = 'p'},
	{"disk-engine", "KIND",
		"what does the I/O of all disks; auto is io_uring where the host allows it",
		AT(disk_engine), .type = FIELD_ENUM, .names = engine_kind_names, .fallback = "auto",
		.commands = BOTH},
	{"stats", "FILE", "write phases and exits as JSON there at the end", AT(stats),
		.type = FIELD_STRING, .commands = BOTH},
	{"config", "FILE",
		"read these options from a JSON object; the command line overrides "
		"it",
		AT(config_file), .type = FIELD_STRING, .commands = BOTH | FIELD_NO_JSON},
	{"help", NULL, "this text", AT(help), .type = FIELD_FLAG, .commands = BOTH | FIELD_NO_JSON,
		.letter = 'h'},
	{"command", "WORDS", "what the guest executes", AT(command), .type = FIELD_LIST,
		.commands = RUN | FIELD_NO_ARGS},
};

int config_init(struct config *c, enum config_command command)
{
	*c = (struct config){
		.fields = {.table = table, .count = ARRAY_SIZE(table), .command = command}};
	c->fields.values = c;
	return fields_init(&c->fields);
}

void config_finish(struct config *c)
{
	while (c->disk_count)
		disk_config_finish(&c->disks[--c->disk_count]);
	free(steal_ptr(&c->disks));
	while (c->nic_count)
		net_config_finish(&c->nics[--c->nic_count]);
	free(steal_ptr(&c->nics));
	fields_finish(&c->fields);
}

#define CONFIG_FILE_MAX MIB(1)

static int load_file(struct config *c, const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *text = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return failno(errno, "--config %s", path);
	if (!S_ISREG(st.st_mode) || st.st_size > (off_t)CONFIG_FILE_MAX)
		return fail(EINVAL, "--config %s: not a regular file of at most 1 MiB", path);
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return fail(ENOMEM, "out of memory");
	n = fd_pread_full(fd, text, (size_t)st.st_size, 0);
	if (n < 0)
		return failno((int)-n, "--config %s", path);
	return fields_load_json(&c->fields, text, (size_t)n, path);
}

/* Starts over with what the file says. */
static int reload(struct config *c)
{
	enum config_command command = c->fields.command;
	CLEANUP_FREE char *path = steal_ptr(&c->config_file);
	int rc;

	config_finish(c);
	rc = config_init(c, command);
	return rc < 0 ? rc : load_file(c, path);
}

static int take_command(struct config *c, int argc, char **argv)
{
	const struct field *d = field_find(&c->fields, "command");
	int rc = 0;

	if (!argc)
		return 0;
	if (!d)
		return fail(EINVAL, "unexpected argument \"%s\"; see --help", argv[0]);
	for (unsigned i = 0; i < c->command.count; i++)
		free(c->command.items[i]);
	c->command.count = 0;
	for (int i = 0; i < argc && !rc; i++)
		rc = field_set(&c->fields, d, argv[i], "");
	return rc;
}

int config_parse(struct config *c, int argc, char **argv)
{
	int n = fields_parse_args(&c->fields, argc, argv);

	if (n >= 0 && c->config_file && !c->help) {
		n = reload(c);
		if (n < 0)
			return n;
		n = fields_parse_args(&c->fields, argc, argv);
	}
	if (n < 0 || c->help)
		return MIN(n, 0);
	return take_command(c, argc - n, argv + n);
}

static int check_console(struct config *c)
{
	if (!strcmp(c->console, "off"))
		c->console_kind = CONSOLE_OFF;
	else if (!strcmp(c->console, "serial"))
		c->console_kind = CONSOLE_SERIAL;
	else if (!strncmp(c->console, "file:", 5) && c->console[5])
		c->console_kind = CONSOLE_FILE;
	else
		return fail(EINVAL, "--console %s: must be serial, off or file:PATH", c->console);
	c->console_path = c->console_kind == CONSOLE_FILE ? c->console + 5 : NULL;
	return 0;
}

int config_check_memory(uint64_t bytes)
{
	struct sysinfo si;
	char text[24];
	uint64_t host;

	if (sysinfo(&si) < 0)
		return 0;
	host = (uint64_t)si.totalram * si.mem_unit;
	if (bytes <= host)
		return 0;
	return fail(ENOMEM, "--memory %s: more than this host has, %llu MiB",
		format_size(bytes, text, sizeof(text)), (unsigned long long)(host >> 20));
}

/* Makes "NAME=VALUE" of each "NAME", from this process's environment; drops what is not set. */
static int check_env(struct config *c)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < c->env.count; i++) {
		char *item = c->env.items[i];
		const char *value;

		c->env.items[i] = NULL;
		if (!*item || *item == '=') {
			int rc = fail(EINVAL, "--env %s: must be NAME=VALUE or NAME", item);

			c->env.items[i] = item;
			return rc;
		}
		if (!strchr(item, '=')) {
			char *full = NULL;

			value = getenv(item);
			if (value && asprintf(&full, "%s=%s", item, value) < 0)
				full = NULL;
			free(item);
			item = full;
		}
		if (item)
			c->env.items[kept++] = item;
	}
	c->env.count = kept;
	return 0;
}

/* Whether there is room for one more disk or NIC. */
static int check_count(const struct config *c)
{
	unsigned count = c->disk_count + c->nic_count;

	if (count == MACHINE_PLUGGED_MAX)
		return fail(EINVAL, "at most %u disks and NICs", MACHINE_PLUGGED_MAX);
	if (c->transport == TRANSPORT_MMIO && count >= MACHINE_DISKS_MMIO)
		return fail(EINVAL, "at most %u disks and NICs, or %u with --transport pci",
			MACHINE_DISKS_MMIO, MACHINE_PLUGGED_MAX);
	return 0;
}

static int add_disk(struct config *c, const char *text)
{
	int rc = check_count(c);

	if (rc)
		return rc;
	if (c->disk_count == MACHINE_DISKS_MAX)
		return fail(EINVAL, "at most %u disks", MACHINE_DISKS_MAX);
	return disk_parse(&c->disks[c->disk_count++], text);
}

/* ... and a NIC, which commands call by its name as well. */
static int check_with_nic(const struct disk_config *d, const struct net_config *n)
{
	if (!strcmp(disk_name(d), n->id))
		return fail(
			EINVAL, "a disk and a NIC are called %s; id=NAME gives one another", n->id);
	if (d->slot && d->slot == n->slot)
		return fail(EINVAL, "disk %s: addr %u is taken by NIC %s", disk_name(d), d->slot,
			n->id);
	return 0;
}

static int check_pair(const struct disk_config *d, const struct disk_config *other)
{
	if (!strcmp(disk_name(d), disk_name(other)))
		return fail(EINVAL, "two disks are called %s; id=NAME gives one another name",
			disk_name(d));
	if (d->slot && d->slot == other->slot)
		return fail(EINVAL, "disk %s: addr %u is taken by disk %s", disk_name(d), d->slot,
			disk_name(other));
	return 0;
}

/* The last one beside those before it. */
static int check_together(const struct config *c)
{
	const struct disk_config *d = &c->disks[c->disk_count - 1];
	int rc = 0;

	if (d->slot && c->transport == TRANSPORT_MMIO)
		return fail(EINVAL, "disk %s: addr needs --transport pci", disk_name(d));
	for (unsigned i = 0; i + 1 < c->disk_count && !rc; i++)
		rc = check_pair(d, &c->disks[i]);
	for (unsigned i = 0; i < c->nic_count && !rc; i++)
		rc = check_with_nic(d, &c->nics[i]);
	return rc;
}

/* The keys of a disk that is a file and nothing else: malloc'd, its commas doubled. */
static char *keys_of_file(const char *path)
{
	char *text = malloc(sizeof("path=") + 2 * strlen(path));
	char *to = text ? stpcpy(text, "path=") : NULL;

	for (; to && *path; path++) {
		*to++ = *path;
		if (*path == ',')
			*to++ = ',';
	}
	if (to)
		*to = '\0';
	return text;
}

/* What is no directory is a disk. What is not there is told by who opens it as one. */
static int check_root(struct config *c)
{
	char *text;
	struct stat st;
	int rc;

	if (!c->rootfs)
		return 0;
	if (strncmp(c->rootfs, "path=", 5) == 0)
		text = strdup(c->rootfs);
	else if (stat(c->rootfs, &st) < 0 || S_ISDIR(st.st_mode))
		return 0;
	else
		text = keys_of_file(c->rootfs);
	if (!text)
		return fail(ENOMEM, "out of memory");
	c->root_disk = true;
	rc = add_disk(c, text);
	free(text);
	rc = rc ? rc : check_together(c);
	return rc ? fail_context(rc, "--rootfs") : 0;
}

/* Where each disk will be. */
static int find_places(const struct config *c, unsigned place[MACHINE_DISKS_MAX])
{
	struct places p;
	int rc;

	places_init(&p);
	for (unsigned i = 0; i < CONFIG_DEVICES; i++)
		places_ask(&p, 0);
	for (unsigned i = 0; i < c->disk_count; i++)
		places_ask(&p, c->disks[i].slot);
	for (unsigned i = 0; i < c->nic_count; i++)
		places_ask(&p, c->nics[i].slot);
	rc = places_settle(&p);
	for (unsigned i = 0; i < CONFIG_DEVICES; i++)
		places_take(&p, 0);
	for (unsigned i = 0; i < c->disk_count; i++)
		place[i] = places_take(&p, c->disks[i].slot);
	return rc;
}

/* Linux names disks in the order of their places. */
static int name_root(struct config *c, unsigned index)
{
	const struct disk_config *d = &c->disks[index];
	unsigned place[MACHINE_DISKS_MAX], before = 0;
	char first[2] = "";
	int n, rc = find_places(c, place);

	if (rc)
		return rc;
	for (unsigned i = 0; i < c->disk_count; i++)
		before += place[i] < place[index];
	if (before >= 26)
		first[0] = 'a';
	n = snprintf(c->root_device, sizeof(c->root_device), "/dev/vd%s%c", first,
		(char)('a' + before % 26));
	if (d->root)
		snprintf(c->root_device + n, sizeof(c->root_device) - (size_t)n, "%u", d->root);
	return 0;
}

/* Of run it is what --rootfs names; of boot, what a disk's root= says. */
static int find_root(struct config *c)
{
	bool run = c->fields.command & RUN;
	int rc = c->root_disk ? name_root(c, 0) : 0;

	for (unsigned i = c->root_disk; i < c->disk_count && !rc; i++) {
		if (!disk_is_root(&c->disks[i]))
			continue;
		if (run)
			return fail(EINVAL, "--disk: root: is a key of --rootfs");
		if (*c->root_device)
			return fail(EINVAL, "--disk: root: is given for two disks");
		rc = name_root(c, i);
	}
	return rc;
}

/* vhost has no way to tell virtio-mmio what an interrupt is for. */
static bool wants_pci(const struct config *c)
{
	bool pci = false;

	for (unsigned i = 0; i < c->nic_count; i++)
		pci |= c->nics[i].kind == NET_TAP || c->nics[i].kind == NET_BRIDGE;
	return pci;
}

/*
 * On PCI an interrupt costs the guest no exits, where virtio-mmio has two; but to look for its
 * devices costs Linux a thousand more at the start. docs/speed.md has both, measured.
 */
static void choose_transport(struct config *c)
{
	if (c->transport == TRANSPORT_AUTO)
		c->transport = c->disk.count || wants_pci(c) ? TRANSPORT_PCI : TRANSPORT_MMIO;
}

static int check_nic_with(const struct net_config *n, const struct net_config *other)
{
	if (!strcmp(n->id, other->id))
		return fail(
			EINVAL, "two NICs are called %s; id=NAME gives one another name", n->id);
	if (n->slot && n->slot == other->slot)
		return fail(
			EINVAL, "NIC %s: addr %u is taken by NIC %s", n->id, n->slot, other->id);
	return 0;
}

static int add_nic(struct config *c, const char *text)
{
	struct net_config *n = &c->nics[c->nic_count];
	unsigned index = c->nic_count++;
	int rc = net_parse(n, text);

	if (!rc)
		rc = net_set_defaults(n, index);
	for (unsigned i = 0; i < index && !rc; i++)
		rc = check_nic_with(n, &c->nics[i]);
	if (!rc && n->kind == NET_NONE && c->net.count > 1)
		rc = fail(EINVAL, "none: is to be the only one");
	return rc;
}

/* What can be said of them once it is known what they are on. */
static int check_places(const struct config *c)
{
	for (unsigned i = 0; i < c->nic_count; i++)
		if (c->nics[i].slot && c->transport == TRANSPORT_MMIO)
			return fail(EINVAL, "NIC %s: addr needs --transport pci", c->nics[i].id);
	if (c->transport == TRANSPORT_MMIO && c->nic_count > MACHINE_DISKS_MMIO)
		return fail(EINVAL, "at most %u, or %u with --transport pci", MACHINE_DISKS_MMIO,
			MACHINE_NICS_MAX);
	return 0;
}

/* They are the first NIC's that can have them. */
static int share_ports(struct config *c)
{
	struct net_config *n = c->nics;
	int rc = 0;

	while (n < c->nics + c->nic_count && n->kind != NET_USER)
		n++;
	if (c->publish.count && n == c->nics + c->nic_count)
		return fail(EINVAL, "--publish %s: needs --net user", c->publish.items[0]);
	for (unsigned i = 0; i < c->publish.count && !rc; i++)
		rc = net_publish(n, c->publish.items[i]);
	return rc;
}

/* "none" is no NIC, where there might be one without it. */
static void drop_none(struct config *c)
{
	if (c->nic_count && c->nics[0].kind == NET_NONE)
		net_config_finish(&c->nics[--c->nic_count]);
}

static int check_nics(struct config *c)
{
	int rc = 0;

	if (c->net.count > MACHINE_NICS_MAX)
		return fail(EINVAL, "--net: at most %u NICs", MACHINE_NICS_MAX);
	c->nics = calloc(MAX(c->net.count, 1), sizeof(*c->nics));
	if (!c->nics)
		return fail(ENOMEM, "out of memory");
	for (unsigned i = 0; i < c->net.count && !rc; i++)
		rc = add_nic(c, c->net.items[i]);
	if (!rc && !c->net.count && c->fields.command & RUN)
		rc = add_nic(c, "user");
	if (!rc) {
		drop_none(c);
		choose_transport(c);
		rc = check_places(c);
	}
	return rc ? fail_context(rc, "--net") : share_ports(c);
}

static int check_disks(struct config *c)
{
	int rc;

	if (!c->disk.count && !c->rootfs)
		return 0;
	c->disks = calloc(MACHINE_DISKS_MAX, sizeof(*c->disks));
	if (!c->disks)
		return fail(ENOMEM, "out of memory");
	rc = check_root(c);
	for (unsigned i = 0; i < c->disk.count && !rc; i++) {
		rc = add_disk(c, c->disk.items[i]);
		rc = rc ? rc : check_together(c);
		if (rc)
			fail_context(rc, "--disk");
	}
	return rc ? rc : find_root(c);
}

int config_check(struct config *c)
{
	int rc;

	c->memory_given = field_given(&c->fields, "memory");
	c->memory = align_up(c->memory, KIB(4));
	if (c->name && !rundir_name_ok(c->name))
		return fail(EINVAL,
			"--name %s: must be 1 to 63 letters, digits, '.', '_' or '-', "
			"and start with a letter or digit",
			c->name);
	if (c->workdir && c->workdir[0] != '/')
		return fail(EINVAL, "--workdir %s: must be a full path in the guest", c->workdir);
	rc = check_console(c);
	if (!rc)
		rc = config_check_memory(c->memory);
	if (!rc)
		rc = check_env(c);
	if (!rc)
		rc = check_nics(c);
	if (!rc)
		rc = check_disks(c);
	if (!rc && (c->fields.command & RUN) && !c->command.count)
		rc = fail(EINVAL, "no command; try: kvick run -- uname -a");
	return rc;
}

void config_print_help(const struct config *c, FILE *out)
{
	fields_print_help(&c->fields, out);
	fputs("\nKeys of --disk, as in path=disk.img,cache=none (a comma within a value is "
	      "doubled):\n",
		out);
	disk_print_help(out);
	fputs("\nKinds of --net, and keys, as in tap,name=tap3 (in brackets whose a key is):\n",
		out);
	net_print_help(out);
}

void config_save(const struct config *c, FILE *out)
{
	fputc('{', out);
	fields_save_json(&c->fields, out);
	fputs("}\n", out);
}
