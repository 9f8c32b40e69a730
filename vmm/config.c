// SPDX-License-Identifier: MIT
// The table of everything that can be said about a machine, and what must hold between the values.
#include "vmm/config.h"

#include "base/fd.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/engine.h"
#include "hw/mem.h"
#include "vmm/config_private.h"
#include "vmm/disk_config.h"
#include "vmm/machine.h"
#include "vmm/net_config.h"
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
		"what the guest's virtio devices are on; auto is pci for a machine with --disk, "
		"--net tap or bridge, and mmio, where there is less to look for, for one without",
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
		"it, and adds to its arrays",
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
		rc = config_nics_check(c);
	if (!rc)
		rc = config_disks_check(c);
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
