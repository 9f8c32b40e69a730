// SPDX-License-Identifier: MIT
// kvick attach-disk, attach-nic and detach: the VM's own process opens nothing, so that an image is
// opened and locked here, or a tap opened, and passed on.
#include "base/fd.h"
#include "base/field.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/control.h"
#include "cli/disk_open.h"
#include "cli/kernel.h"
#include "vmm/disk.h"
#include "vmm/machine.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* ---- attach-disk ---- */

static json_t *describe(const char *keys, const struct disk_parts *parts)
{
	json_t *o = json_object();

	json_add_string(&o, "disk", keys);
	json_add_uint(&o, "chain", parts->chain);
	json_add_uint(&o, "overlay", parts->overlay);
	json_add_bool(&o, "kept", parts->kept);
	return o;
}

static int pass(const char *vm, const char *keys, const struct disk_files *files)
{
	struct disk_parts parts;
	int fds[DISK_FDS_MAX], n = disk_files_list(files, &parts, fds);
	json_t *args = describe(keys, &parts);
	const struct api_question question = {
		.verb = "attach-disk", .args = args, .fds = fds, .fd_count = (unsigned)n};
	int rc = n;

	if (n >= 0)
		rc = args ? control_ask(vm, &question, NULL)
			  : fail(EINVAL, "disk %s: must be text", keys);
	json_decref(args);
	return rc;
}

/* What an image is made of is decompressed by a process of the disk's own. */
static int start_helper(struct disk_files *files, int messages)
{
	int rc;

	files->helper = calloc(1, sizeof(*files->helper));
	if (!files->helper)
		return fail(ENOMEM, "out of memory");
	rc = decompress_helper_start(files->helper, JAIL_KILL, helper_open, messages);
	if (rc)
		free(steal_ptr(&files->helper));
	return rc;
}

static int open_and_pass_disk(const char *vm, const char *keys, const struct disk_config *disk)
{
	CLEANUP_FD int messages = memfd_create("messages", MFD_CLOEXEC);
	struct disk_files files;
	int rc = messages < 0 ? failno(errno, "memory for messages")
			      : disk_open_repaired(disk, &files);

	if (rc)
		return rc;
	if (disk_may_be_compressed(&files))
		rc = start_helper(&files, messages);
	rc = rc ? rc : pass(vm, keys, &files);
	disk_hand_over(&files);
	return rc;
}

static int attach(const struct command_options *o)
{
	const char *vm = o->words.items[0], *keys = o->words.items[1];
	struct disk_config disk;
	int rc = disk_parse(&disk, keys);

	if (!rc && disk_is_root(&disk))
		rc = fail(EINVAL, "root: is for a disk that is there when the guest starts");
	if (!rc)
		rc = open_and_pass_disk(vm, keys, &disk);
	disk_config_finish(&disk);
	return rc;
}

static void disk_help(FILE *out)
{
	fputs("\nKEYS are those of --disk:\n", out);
	disk_print_help(out);
}

int cmd_attach_disk(int argc, char **argv)
{
	static const struct command c = {
		.kind = COMMAND_ASKS,
		.missing = "which VM and which device? see kvick attach-disk --help",
		.usage = "usage: kvick attach-disk NAME KEYS\n\n"
			 "Gives the guest of VM NAME one more disk. The VM must be on PCI, as one "
			 "made with\n--disk, --net tap or bridge, or --transport pci is.\n",
		.act = attach,
		.more_help = disk_help,
	};

	return command_run(&c, argc, argv);
}

/* ---- attach-nic ---- */

static bool is_taken(const json_t *nics, const struct net_config *n, const char *mac)
{
	size_t i;
	json_t *nic;

	json_array_foreach(nics, i, nic)
	{
		const char *id = json_string_value(json_object_get(nic, "id"));
		const char *other = json_string_value(json_object_get(nic, "mac"));

		if ((id && !strcmp(id, n->id)) || (other && !strcmp(other, mac)))
			return true;
	}
	return false;
}

static void put_mac(const struct net_config *n, char text[18])
{
	snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", n->mac[0], n->mac[1], n->mac[2],
		n->mac[3], n->mac[4], n->mac[5]);
}

/* The name and address of the first number that no NIC of the VM has, where they are not given. */
static int complete(struct net_config *n, const char *vm, const json_t *nics)
{
	bool named = n->id;
	char mac[18];

	for (unsigned i = 0;; i++) {
		int rc = net_set_defaults(n, i);

		if (rc)
			return rc;
		net_set_mac(n, vm, i);
		put_mac(n, mac);
		if ((named && n->mac_text) || i == MACHINE_NICS_MAX || !is_taken(nics, n, mac))
			return 0;
		if (!named)
			free(steal_ptr(&n->id));
	}
}

/* The keys, with what has been added to them here; malloc'd, or NULL. */
static char *complete_keys(const char *keys, const struct net_config *n, uint32_t mtu)
{
	char *text = NULL;
	char mac[18];
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fputs(keys, f);
	if (!field_given(&n->fields, "id"))
		fprintf(f, ",id=%s", n->id);
	put_mac(n, mac);
	if (!n->mac_text)
		fprintf(f, ",mac=%s", mac);
	if (!n->mtu && mtu)
		fprintf(f, ",mtu=%u", mtu);
	fclose(f);
	return text;
}

static int pass_nic(const char *vm, const char *keys, const struct net_end *end,
	const struct nic_helper *helper)
{
	int fds[NIC_FILES_MAX];
	struct api_question question = {
		.verb = "attach-nic", .fds = fds, .fd_count = nic_files_list(end, helper, fds)};
	json_t *args = json_object();
	int rc;

	json_add_string(&args, "nic", keys);
	question.args = args;
	rc = args ? control_ask(vm, &question, NULL) : fail(EINVAL, "%s: must be text", keys);
	json_decref(args);
	return rc;
}

/* A process that stays is not to keep our standard error open for those who read it to its end. */
static void pass_on(int messages)
{
	char text[1024];
	ssize_t n = pread(messages, text, sizeof(text), 0);

	if (n > 0)
		fwrite(text, 1, (size_t)n, stderr);
}

static int open_and_pass(const char *vm, const char *keys, const struct net_config *n)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FD int messages = memfd_create("messages", MFD_CLOEXEC);
	const struct net_host host = {
		.open_program = helper_open,
		.jail = JAIL_KILL,
		.vm = vm,
		.pci = true, /* no other machine takes it */
		.messages = messages,
	};
	struct nic_helper helper = {0};
	struct net_guest guest;
	struct net_end end = {0};
	int rc = messages < 0 ? failno(errno, "memory for messages")
			      : nic_open(&helper, n, &host, &end, &guest);

	if (!rc)
		rc = nic_await(&helper);
	text = rc ? NULL : complete_keys(keys, n, end.mtu);
	if (!rc)
		rc = text ? pass_nic(vm, text, &end, &helper) : fail(ENOMEM, "out of memory");
	port_close(&end);
	if (!rc)
		nic_hand_over(&helper);
	nic_finish(&helper);
	pass_on(messages);
	return rc;
}

static int attach_nic(const struct command_options *o)
{
	const char *vm = o->words.items[0], *keys = o->words.items[1];
	const struct api_question status = {.verb = "status"};
	json_t *result = NULL;
	struct net_config n;
	int rc = net_parse(&n, keys);

	if (!rc && n.kind == NET_NONE)
		rc = fail(EINVAL, "none: there is nothing to attach");
	if (!rc)
		rc = control_ask(vm, &status, &result);
	if (!rc)
		rc = complete(&n, vm, json_object_get(result, "nics"));
	if (!rc)
		rc = open_and_pass(vm, keys, &n);
	json_decref(result);
	net_config_finish(&n);
	return rc;
}

int cmd_attach_nic(int argc, char **argv)
{
	static const struct command c = {
		.kind = COMMAND_ASKS,
		.missing = "which VM and which device? see kvick attach-nic --help",
		.usage = "usage: kvick attach-nic NAME KEYS\n\n"
			 "Gives the guest of VM NAME one more NIC. The VM must be on PCI, as one "
			 "made with\n--disk, --net tap or bridge, or --transport pci is. KEYS are "
			 "those of --net (kvick\nboot --help).\n",
		.act = attach_nic,
	};

	return command_run(&c, argc, argv);
}

/* ---- detach ---- */

/* Until the VM says that the disk is gone, or says no more. */
static int await(int fd, uint64_t ns)
{
	char byte;

	if (fd_await(fd, POLLIN, now_ns() + ns))
		return fail(ETIMEDOUT,
			"the guest has not let go of it in %g s, and may still; until then it has "
			"it",
			(double)ns / 1e9);
	if (read(fd, &byte, 1) == 1)
		return 0;
	return fail(EPIPE, "the VM has ended, or another has asked for the same since");
}

static int ask(const char *vm, const char *id, int told)
{
	struct api_question question = {.verb = "detach", .fds = &told, .fd_count = 1};
	json_t *args = json_object();
	int rc;

	json_add_string(&args, "id", id);
	question.args = args;
	rc = args ? control_ask(vm, &question, NULL) : fail(EINVAL, "%s: must be text", id);
	json_decref(args);
	return rc;
}

static int detach(const struct command_options *o)
{
	const char *vm = o->words.items[0], *id = o->words.items[1];
	CLEANUP_FD int here = -1;
	int ends[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return failno(errno, "socketpair");
	here = ends[0];
	rc = ask(vm, id, ends[1]);
	close(ends[1]);
	if (rc < 0)
		return rc;
	rc = await(here, o->timeout_ns);
	return rc < 0 ? fail_context(rc, "%s: %s", vm, id) : 0;
}

int cmd_detach(int argc, char **argv)
{
	static const struct command c = {
		.kind = COMMAND_WAITS,
		.missing = "which VM and which device? see kvick detach --help",
		.usage =
			"usage: kvick detach [OPTIONS] NAME ID\n\n"
			"Asks the guest of VM NAME to let go of its disk or NIC ID, as kvick "
			"status "
			"calls it,\nand waits until it has. Unmount a disk's file systems first.\n",
		.act = detach,
	};

	return command_run(&c, argc, argv);
}
