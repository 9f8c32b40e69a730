// SPDX-License-Identifier: MIT
// The table of verbs and what each does.
#include "api/verbs.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "vmm/disk_job.h"
#include "vmm/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define IN(state) (1u << MACHINE_##state)
#define ALIVE (IN(CREATED) | IN(RUNNING) | IN(PAUSED))
#define ALWAYS (ALIVE | IN(ENDED))

/* ---- limits: rows of a table after its first, each before its burst ---- */

struct limit_disk {
	char *id;
	struct disk_limits limits;
};

#define LIMIT(member) .offset = offsetof(struct limit_disk, limits.member), .commands = API_ARG

static const struct field limit_disk_args[] = {
	{"id", "ID", "the disk, as status calls it", .offset = offsetof(struct limit_disk, id),
		.type = FIELD_STRING, .commands = API_ARG | FIELD_MANDATORY},
	{"bw", "SIZE", "bytes a second; 0: no limit", LIMIT(bandwidth), .type = FIELD_SIZE,
		.max = INT64_MAX},
	{"bw-burst", "SIZE", "bytes at once after a rest; 0: what a tenth of a second brings",
		LIMIT(bandwidth_burst), .type = FIELD_SIZE, .max = INT64_MAX},
	{"iops", "N", "requests a second; 0: no limit", LIMIT(iops), .type = FIELD_U32},
	{"iops-burst", "N", "requests at once after a rest; 0: as above", LIMIT(iops_burst),
		.type = FIELD_U32},
};

static uint64_t get_limit(const struct field *d, const void *values)
{
	const void *at = (const char *)values + d->offset;

	return d->type == FIELD_U32 ? *(const uint32_t *)at : *(const uint64_t *)at;
}

static void put_limit(const struct field *d, void *values, uint64_t n)
{
	void *at = (char *)values + d->offset;

	if (d->type == FIELD_U32)
		*(uint32_t *)at = (uint32_t)n;
	else
		*(uint64_t *)at = n;
}

static json_t *describe_limits(const struct field *table, unsigned count, const void *values)
{
	json_t *o = json_object();

	for (unsigned i = 1; i < count; i++)
		json_add_uint(&o, table[i].name, get_limit(&table[i], values));
	return o;
}

/* What is not given stays; a limit that is lifted takes its burst along. */
static void change_limits(void *values, const struct fields *args)
{
	for (unsigned i = 1; i < args->count; i++) {
		const struct field *d = &args->table[i];
		uint64_t n = get_limit(d, args->values);

		if (!(args->given >> i & 1))
			continue;
		put_limit(d, values, n);
		if (i % 2 && !n)
			put_limit(d + 1, values, 0);
	}
}

static json_t *describe_disk(const struct machine_disk *d)
{
	const struct limit_disk l = {.limits = d->limits};
	json_t *o = json_object();

	json_add_string(&o, "id", d->id);
	json_add_string(&o, "path", d->path);
	json_add_uint(&o, "size", d->size);
	json_add_bool(&o, "read-only", d->read_only);
	json_add_bool(&o, "detaching", d->detaching);
	json_add_string(&o, "format", d->format);
	json_add_string(&o, "overlay", d->overlay);
	json_add_string(&o, "cache", d->cache);
	json_add_string(&o, "engine", d->engine);
	json_add_string(&o, "address", d->address);
	json_add_string(&o, "on-error", d->on_error);
	json_add_uint(&o, "errors", d->errors);
	json_add_uint(&o, "held", d->held);
	json_add(&o, "limits", describe_limits(limit_disk_args, ARRAY_SIZE(limit_disk_args), &l));
	return o;
}

static json_t *describe_disks(struct machine *m)
{
	struct machine_disk disks[MACHINE_DISKS_MAX];
	unsigned count = machine_disks(m, disks);
	json_t *list = json_array();

	for (unsigned i = 0; i < count; i++)
		json_array_append_new(list, describe_disk(&disks[i]));
	return list;
}

static json_t *describe_nics(struct machine *m)
{
	json_t *list;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	machine_put_nics(m, f);
	list = fclose(f) ? NULL : json_loads(text, 0, NULL);
	free(text);
	return list;
}

static int run_status(struct api_request *r)
{
	const struct api *a = r->api;
	enum machine_state state = machine_state(a->machine);
	const char *why = machine_why_stopped(a->machine);
	json_t *o = json_object();

	json_add_string(&o, "name", a->name);
	json_add_string(&o, "state", machine_state_name(state));
	json_add_uint(&o, "cpus", a->cpus);
	json_add_uint(&o, "memory", a->memory);
	json_add_real(&o, "uptime", (double)(now_ns() - a->started_ns) / 1e9);
	json_add_uint(&o, "pid", (uint64_t)getpid());
	json_add(&o, "disks", describe_disks(a->machine));
	json_add(&o, "nics", describe_nics(a->machine));
	if (state == MACHINE_PAUSED && *why)
		json_add_string(&o, "why", why);
	if (state == MACHINE_ENDED)
		json_add_string(&o, "end", machine_end_name(machine_end_reason(a->machine)));
	r->result = o;
	return o ? 0 : fail(ENOMEM, "out of memory");
}

static int run_pause(struct api_request *r)
{
	return machine_pause(r->api->machine);
}

static int run_resume(struct api_request *r)
{
	return machine_resume(r->api->machine);
}

static int run_reset(struct api_request *r)
{
	return machine_reset(r->api->machine);
}

static int run_power_button(struct api_request *r)
{
	struct api *a = r->api;

	return a->power_button ? a->power_button(a->arg) : machine_power_button(a->machine);
}

static int run_kill(struct api_request *r)
{
	machine_end(r->api->machine, END_KILLED);
	return 0;
}

static int run_stats(struct api_request *r)
{
	char *text = machine_stats(r->api->machine);

	r->result = text ? json_loads(text, 0, NULL) : NULL;
	free(text);
	return r->result ? 0 : fail(ENOMEM, "out of memory");
}

struct resize_disk {
	char *id;
};

static const struct field resize_disk_args[] = {
	{"id", "ID", "the disk, as status calls it", .offset = offsetof(struct resize_disk, id),
		.type = FIELD_STRING, .commands = API_ARG | FIELD_MANDATORY},
};

static int run_resize_disk(struct api_request *r)
{
	const struct resize_disk *args = r->args->values;
	uint64_t size;
	int rc = machine_resize_disk(r->api->machine, args->id, &size);

	if (rc < 0)
		return rc;
	r->result = json_object();
	json_add_uint(&r->result, "size", size);
	return r->result ? 0 : fail(ENOMEM, "out of memory");
}

static int run_limit_disk(struct api_request *r)
{
	const char *id = ((const struct limit_disk *)r->args->values)->id;
	struct limit_disk now;
	int rc = machine_disk_limits(r->api->machine, id, &now.limits);

	if (rc < 0)
		return rc;
	change_limits(&now, r->args);
	rc = machine_limit_disk(r->api->machine, id, &now.limits);
	if (rc < 0)
		return fail_context(rc, "limit-disk");
	r->result = describe_limits(r->args->table, r->args->count, &now);
	return r->result ? 0 : fail(ENOMEM, "out of memory");
}

static int run_limit_nic(struct api_request *r)
{
	const char *id = ((const struct net_config *)r->args->values)->id;
	struct net_config now;
	int rc = machine_nic_limits(r->api->machine, id, &now.limits);

	if (rc < 0)
		return rc;
	change_limits(&now, r->args);
	rc = machine_limit_nic(r->api->machine, id, &now.limits);
	if (rc < 0)
		return fail_context(rc, "limit-nic");
	r->result = describe_limits(r->args->table, r->args->count, &now);
	return r->result ? 0 : fail(ENOMEM, "out of memory");
}

struct link {
	char *id;
	unsigned up;
};

static const char *const link_states[] = {"down", "up", NULL};

static const struct field link_args[] = {
	{"id", "NIC", "as status calls it; not needed where there is but one",
		.offset = offsetof(struct link, id), .type = FIELD_STRING, .commands = API_ARG},
	{"state", "up|down", "whether its cable is plugged in", .offset = offsetof(struct link, up),
		.type = FIELD_ENUM, .names = link_states, .commands = API_ARG | FIELD_MANDATORY},
};

static int run_link(struct api_request *r)
{
	const struct link *args = r->args->values;

	return machine_set_link(r->api->machine, args->id, args->up);
}

struct attach_disk {
	char *disk;
	struct disk_parts parts;
};

#define ATTACH(member) .offset = offsetof(struct attach_disk, member)

static const struct field attach_disk_args[] = {
	{"disk", "KEYS", "as of --disk", ATTACH(disk), .type = FIELD_STRING,
		.commands = API_ARG | FIELD_MANDATORY},
	{"chain", "N", "how many of the descriptors are the image's, its lock and what it names",
		ATTACH(parts.chain), .type = FIELD_U32, .fallback = "1", .commands = API_ARG},
	{"overlay", "N", "how many, after those, are the overlay's and its lock",
		ATTACH(parts.overlay), .type = FIELD_U32, .fallback = "0", .commands = API_ARG},
	{"kept", NULL, "the overlay is a qcow2 image", ATTACH(parts.kept), .type = FIELD_FLAG,
		.commands = API_ARG},
};

static int run_attach_disk(struct api_request *r)
{
	const struct attach_disk *args = r->args->values;
	struct disk_config *disk;
	struct disk_files files;
	int rc = disk_config_create(&disk, args->disk);

	if (!rc)
		rc = disk_files_take(&files, disk, &args->parts, r->fds->fd, r->fds->count);
	if (rc < 0) {
		disk_config_free(disk);
		return fail_context(rc, "attach-disk");
	}
	return machine_attach_disk(r->api->machine, disk, &files);
}

/* ---- jobs of a disk ---- */

struct disk_job_args {
	char *id, *disk;
};

static const struct field disk_job_args[] = {
	{"id", "ID", "the disk, as status calls it", .offset = offsetof(struct disk_job_args, id),
		.type = FIELD_STRING, .commands = API_ARG | FIELD_MANDATORY},
	{"disk", "KEYS", "the other image, as of --disk",
		.offset = offsetof(struct disk_job_args, disk), .type = FIELD_STRING,
		.commands = API_ARG | FIELD_MANDATORY},
};

/* Of `count` descriptors that are the other image's. */
static int begin_job(struct api_request *r, enum disk_job_kind kind, unsigned count, int socket)
{
	const struct disk_job_args *args = r->args->values;
	const struct disk_parts parts = {.chain = count};
	struct disk_target target;
	int rc = disk_config_create(&target.cfg, args->disk);

	if (!rc)
		rc = disk_files_take(&target.files, target.cfg, &parts, r->fds->fd, count);
	if (rc < 0) {
		disk_config_free(target.cfg);
		return fail_context(rc, "%s", args->id);
	}
	return machine_begin_job(r->api->machine, args->id, kind, &target, socket);
}

/* The last descriptor is the socket. */
static int begin_copy(struct api_request *r, enum disk_job_kind kind)
{
	unsigned last = r->fds->count - 1;
	int rc;

	if (r->fds->count < 2)
		return fail(EINVAL, "the image's descriptors and a socket are wanted");
	rc = begin_job(r, kind, last, r->fds->fd[last]);
	if (!rc)
		r->fds->fd[last] = -1;
	return rc;
}

static int run_mirror_disk(struct api_request *r)
{
	return begin_copy(r, DISK_JOB_MIRROR);
}

static int run_commit_disk(struct api_request *r)
{
	return begin_copy(r, DISK_JOB_COMMIT);
}

static int run_snapshot_disk(struct api_request *r)
{
	return begin_job(r, DISK_JOB_SNAPSHOT, r->fds->count, -1);
}

struct attach_nic {
	char *nic;
};

static const struct field attach_nic_args[] = {
	{"nic", "KEYS", "as of --net", .offset = offsetof(struct attach_nic, nic),
		.type = FIELD_STRING, .commands = API_ARG | FIELD_MANDATORY},
};

static int run_attach_nic(struct api_request *r)
{
	const struct attach_nic *args = r->args->values;
	struct nic_helper *helper = calloc(1, sizeof(*helper));
	struct net_config *nic;
	struct net_end end;
	int rc = net_config_create(&nic, args->nic);

	if (!rc && !helper)
		rc = fail(ENOMEM, "out of memory");
	if (!rc && (nic->kind == NET_NONE || !nic->id || !nic->mac_text))
		rc = fail(EINVAL, "%s: must be a NIC, with id and mac", args->nic);
	if (!rc)
		rc = nic_files_take(nic, r->fds->fd, r->fds->count, &end, helper);
	if (rc < 0) {
		free(helper);
		net_config_free(nic);
		return fail_context(rc, "attach-nic");
	}
	return machine_attach_nic(r->api->machine, nic, &end, helper);
}

struct detach {
	char *id;
};

static const struct field detach_args[] = {
	{"id", "ID", "the disk or NIC, as status calls it", .offset = offsetof(struct detach, id),
		.type = FIELD_STRING, .commands = API_ARG | FIELD_MANDATORY},
};

static int run_detach(struct api_request *r)
{
	const struct detach *args = r->args->values;
	int told = r->fds->count ? r->fds->fd[0] : -1;
	int rc = machine_detach(r->api->machine, args->id, told);

	if (!rc && r->fds->count)
		r->fds->fd[0] = -1;
	return rc;
}

#define ARGS(table, type)                                                                          \
	{                                                                                          \
		(table), ARRAY_SIZE(table), sizeof(type)                                           \
	}

static const struct api_verb verbs[] = {
	{"status", ALWAYS, 0, run_status, "say what state the VM is in"},
	{"stats", ALWAYS, 0, run_stats,
		"say the command line, how long each phase took, and exits by cause"},
	{"pause", IN(RUNNING), 0, run_pause, "stop the VM's processors"},
	{"resume", IN(PAUSED), 0, run_resume, "let them go on"},
	{"reset", IN(RUNNING) | IN(PAUSED), 0, run_reset, "press the reset button"},
	{"power-button", IN(RUNNING), 0, run_power_button, "press the power button"},
	{"kill", ALIVE, 0, run_kill, "end the VM at once"},
	{"resize-disk", IN(RUNNING) | IN(PAUSED), 0, run_resize_disk,
		"tell the guest the new size of a disk whose file or device has grown",
		.args = ARGS(resize_disk_args, struct resize_disk)},
	{"limit-disk", IN(RUNNING) | IN(PAUSED), 0, run_limit_disk,
		"change how much a disk does in a second, or say it; what is not given stays",
		.args = ARGS(limit_disk_args, struct limit_disk)},
	{"limit-nic", IN(RUNNING) | IN(PAUSED), 0, run_limit_nic,
		"change how much a NIC does in a second, or say it; what is not given stays",
		.args = {net_keys, NET_LIMIT_ROWS, sizeof(struct net_config)}},
	{"link", IN(RUNNING) | IN(PAUSED), 0, run_link, "plug a NIC's cable in or out",
		.args = ARGS(link_args, struct link)},
	{"attach-disk", IN(RUNNING) | IN(PAUSED), API_FDS_MAX, run_attach_disk,
		"give the guest one more disk, whose open files come with it",
		.args = ARGS(attach_disk_args, struct attach_disk)},
	{"mirror-disk", IN(RUNNING) | IN(PAUSED), API_FDS_MAX, run_mirror_disk,
		"copy a disk's image while the guest uses it; the other image's open files come "
		"with it, and a socket that tells how it goes",
		.args = ARGS(disk_job_args, struct disk_job_args)},
	{"commit-disk", IN(RUNNING) | IN(PAUSED), API_FDS_MAX, run_commit_disk,
		"bring what a disk's image has to its backing file; the rest as of mirror-disk",
		.args = ARGS(disk_job_args, struct disk_job_args)},
	{"snapshot-disk", IN(RUNNING) | IN(PAUSED), 2, run_snapshot_disk,
		"put a new overlay on a disk's image, whose open file and lock come with it",
		.args = ARGS(disk_job_args, struct disk_job_args)},
	{"attach-nic", IN(RUNNING) | IN(PAUSED), NIC_FILES_MAX, run_attach_nic,
		"give the guest one more NIC, whose open tap comes with it",
		.args = ARGS(attach_nic_args, struct attach_nic)},
	{"detach", IN(RUNNING) | IN(PAUSED), 1, run_detach,
		"ask the guest to let go of a disk or NIC; a socket that comes with it gets a byte "
		"then",
		.args = ARGS(detach_args, struct detach)},
};

const struct api_verb *api_verbs(unsigned *count)
{
	*count = ARRAY_SIZE(verbs);
	return verbs;
}

const struct api_verb *api_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	}
	return NULL;
}

void api_fds_close(struct api_fds *fds)
{
	for (unsigned i = 0; i < fds->count; i++)
		if (fds->fd[i] >= 0)
			close(fds->fd[i]);
	fds->count = 0;
}

/* What can be said before its arguments are looked at. */
static int check(const struct api *a, const struct api_verb *v, const struct api_fds *fds)
{
	enum machine_state state = machine_state(a->machine);

	if (!(v->states & 1u << state))
		return fail(EBUSY, "%s: not while the machine is %s", v->name,
			machine_state_name(state));
	if (fds->count > v->fds)
		return fail(EINVAL, "%s: %u descriptors have come with it, where it takes %u",
			v->name, fds->count, v->fds);
	return 0;
}

static int set_args(const struct api_verb *v, struct fields *args, const json_t *object)
{
	char prefix[64];
	int rc = args->values ? fields_init(args) : fail(ENOMEM, "out of memory");

	snprintf(prefix, sizeof(prefix), "%s: ", v->name);
	if (!rc)
		rc = fields_set_json(args, object, prefix);
	return rc ? rc : fields_check_mandatory(args, prefix);
}

static int run(struct api *a, const struct api_verb *v, const json_t *object, struct api_fds *fds,
	json_t **result)
{
	struct fields args = {.table = v->args.table,
		.count = v->args.count,
		.command = API_ARG,
		.values = calloc(1, MAX(v->args.size, 1))};
	struct api_request r = {.api = a, .args = &args, .fds = fds};
	int rc = set_args(v, &args, object);

	if (!rc)
		rc = v->run(&r);
	if (args.values)
		fields_finish(&args);
	free(args.values);
	*result = r.result;
	return rc;
}

int api_run(struct api *a, const struct api_verb *v, const json_t *args, struct api_fds *fds,
	json_t **result)
{
	int rc = check(a, v, fds);

	*result = NULL;
	if (!rc)
		rc = run(a, v, args, fds, result);
	api_fds_close(fds);
	if (!rc && !*result)
		*result = json_object();
	if (!rc && !*result)
		rc = fail(ENOMEM, "out of memory");
	if (rc < 0)
		json_decref(steal_ptr(result));
	return rc;
}

int api_call(
	struct api *a, const char *name, const json_t *args, struct api_fds *fds, json_t **result)
{
	const struct api_verb *v = api_find(name);

	if (v)
		return api_run(a, v, args, fds, result);
	api_fds_close(fds);
	return fail(ENOSYS, "unknown verb \"%.64s\"", name);
}
