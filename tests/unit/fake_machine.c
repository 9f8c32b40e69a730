// SPDX-License-Identifier: MIT
// A machine that has states and nothing else, for tests of what controls one.
#include "tests/unit/fake_machine.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum machine_state machine_state(const struct machine *m)
{
	return m->state;
}

enum machine_end machine_end_reason(const struct machine *m)
{
	return m->end;
}

const char *machine_state_name(enum machine_state s)
{
	static const char *const names[] = {"created", "running", "paused", "ended"};

	return names[s];
}

const char *machine_end_name(enum machine_end e)
{
	return e == END_KILLED ? "killed" : "other";
}

static int become(struct machine *m, enum machine_state s)
{
	m->calls++;
	if (m->rc < 0)
		return fail(-m->rc, "the fake refuses");
	m->state = s;
	return 0;
}

int machine_pause(struct machine *m)
{
	return become(m, MACHINE_PAUSED);
}

int machine_resume(struct machine *m)
{
	return become(m, MACHINE_RUNNING);
}

int machine_reset(struct machine *m)
{
	return become(m, m->state);
}

int machine_power_button(struct machine *m)
{
	return become(m, m->state);
}

int machine_resize_disk(struct machine *m, const char *id, uint64_t *size)
{
	*size = MIB(8);
	m->calls++;
	return strcmp(id, "data") ? fail(ENOENT, "it has no disk %s", id) : m->rc;
}

const char *machine_why_stopped(const struct machine *m)
{
	return m->why ? m->why : "";
}

unsigned machine_disks(struct machine *m, struct machine_disk *disks)
{
	disks[0] = (struct machine_disk){
		.id = "data",
		.path = "dir/data.img",
		.format = "raw",
		.overlay = "none",
		.cache = "writeback",
		.on_error = "stop",
		.engine = "io_uring",
		.address = "mmio 0xd0000000",
		.size = MIB(8),
		.errors = 3,
		.held = 2,
		.limits = m->limits,
	};
	return 1;
}

static int check_id(const char *id)
{
	return strcmp(id, "data") ? fail(ENOENT, "it has no disk %s", id) : 0;
}

int machine_disk_limits(struct machine *m, const char *id, struct disk_limits *limits)
{
	*limits = m->limits;
	return check_id(id);
}

int machine_limit_disk(struct machine *m, const char *id, const struct disk_limits *limits)
{
	m->limits = *limits;
	m->calls++;
	return m->rc < 0 ? fail(-m->rc, "the fake refuses") : check_id(id);
}

int machine_attach_disk(struct machine *m, struct disk_config *disk, const struct disk_files *files)
{
	m->calls++;
	m->files = *files;
	snprintf(m->attached, sizeof(m->attached), "%s", disk_name(disk));
	disk_config_free(disk);
	disk_close(files);
	return m->rc < 0 ? fail(-m->rc, "the fake refuses") : 0;
}

int machine_begin_job(struct machine *m, const char *id, enum disk_job_kind kind,
	struct disk_target *target, int socket)
{
	m->calls++;
	m->job = kind;
	m->files = target->files;
	snprintf(m->attached, sizeof(m->attached), "%s", id);
	disk_target_finish(target);
	if (m->rc < 0)
		return fail(-m->rc, "the fake refuses");
	if (socket >= 0)
		close(socket);
	return 0;
}

int machine_attach_nic(struct machine *m, struct net_config *nic, const struct net_end *end,
	struct nic_helper *helper)
{
	struct net_end taken = *end;

	m->calls++;
	snprintf(m->attached, sizeof(m->attached), "%s", nic->id);
	nic_helper_free(helper);
	net_config_free(nic);
	port_close(&taken);
	return 0;
}

int machine_detach(struct machine *m, const char *id, int told)
{
	int rc = check_id(id);

	m->calls++;
	if (!rc && told >= 0) {
		m->calls += send(told, "", 1, MSG_NOSIGNAL) == 1;
		close(told);
	}
	return rc;
}

int machine_nic_limits(struct machine *m, const char *id, struct net_limits *limits)
{
	*limits = m->nic_limits;
	return check_id(id);
}

int machine_limit_nic(struct machine *m, const char *id, const struct net_limits *limits)
{
	m->nic_limits = *limits;
	m->calls++;
	return check_id(id);
}

void machine_put_nics(struct machine *m, FILE *f)
{
	fputs("[{\"id\":\"net0\"}]", f);
}

int machine_set_link(struct machine *m, const char *id, bool up)
{
	m->calls++;
	snprintf(m->link, sizeof(m->link), "%s %s", id ? id : "-", up ? "up" : "down");
	return m->rc < 0 ? fail(-m->rc, "the fake refuses") : 0;
}

void machine_end(struct machine *m, enum machine_end why)
{
	m->state = MACHINE_ENDED;
	m->end = why;
}

char *machine_stats(struct machine *m)
{
	return strdup("{\"exits\": {\"io\": 3}}");
}
