// SPDX-License-Identifier: MIT
// A machine's state as a stream, and what it tells of itself.
#include "vmm/machine_private.h"

#include "base/field.h"
#include "base/log.h"
#include "hw/serial.h"
#include "hw/vcpu.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

static int save_cpus(struct machine *m, struct stream_out *s)
{
	int rc = kvm_save(&m->kvm, s);

	for (uint32_t i = 0; !rc && i < m->cpus; i++)
		rc = vcpu_save(m->cpu[i], s);
	return rc;
}

static int load_cpus(struct machine *m, struct stream_in *s)
{
	int rc = kvm_load(&m->kvm, s);

	for (uint32_t i = 0; !rc && i < m->cpus; i++)
		rc = vcpu_load(m->cpu[i], s);
	return rc;
}

static int save_twin(struct machine *m, const struct kvm *kvm, struct stream_out *s)
{
	int rc = kvm_save(kvm, s);

	for (uint32_t i = 0; !rc && i < m->cpus; i++) {
		struct vcpu *cpu;

		rc = machine_new_vcpu(m, kvm, i, &cpu);
		if (rc)
			return rc;
		rc = vcpu_save(cpu, s);
		vcpu_destroy(cpu);
	}
	return rc;
}

/*
 * From a twin that is made for the purpose and thrown away: so that nobody pays at start for a
 * reset that may never come, and what a reset restores is by construction what a new machine has.
 */
int machine_load_fresh(struct machine *m)
{
	int dev = fcntl(m->kvm.dev, F_DUPFD_CLOEXEC, 0);
	struct stream_out out;
	struct stream_in in;
	struct kvm twin;
	int rc = dev < 0 ? failno(errno, "machine %s: /dev/kvm", m->cfg.name)
			 : kvm_create(&twin, dev);

	if (rc)
		return rc;
	stream_out_init(&out);
	rc = save_twin(m, &twin, &out);
	kvm_finish(&twin);
	stream_in_init(&in, out.buf, out.len);
	if (!rc)
		rc = load_cpus(m, &in);
	stream_out_finish(&out);
	return rc;
}

int machine_save(struct machine *m, struct stream_out *s)
{
	int rc;

	if (m->state != MACHINE_PAUSED && m->state != MACHINE_CREATED)
		return fail(EBUSY, "machine %s is %s: only a paused one can be saved", m->cfg.name,
			machine_state_name(m->state));
	rc = save_cpus(m, s);
	return rc ? rc : devices_save(&m->devices, s);
}

int machine_load(struct machine *m, struct stream_in *s)
{
	int rc;

	if (m->state != MACHINE_PAUSED && m->state != MACHINE_CREATED)
		return fail(EBUSY, "machine %s is %s: only a paused or new one can be loaded",
			m->cfg.name, machine_state_name(m->state));
	rc = load_cpus(m, s);
	return rc ? rc : devices_load(&m->devices, s);
}

static void print_phases(const struct machine *m, FILE *f)
{
	fputs("\"phases_ns\":{", f);
	for (unsigned i = 1; i < m->phases; i++)
		fprintf(f, "%s\"%s\":%llu", i > 1 ? "," : "", m->phase[i].name,
			(unsigned long long)(m->phase[i].at_ns - m->phase[0].at_ns));
	fputs("}", f);
}

static void print_exits(const struct machine *m, FILE *f)
{
	static const char *const names[EXIT_KINDS] = {"io", "mmio", "interrupted", "other"};

	fputs(",\"exits\":{", f);
	for (unsigned k = 0; k < EXIT_KINDS; k++) {
		uint64_t sum = 0;

		for (uint32_t i = 0; i < m->cpus; i++)
			sum += vcpu_exits(m->cpu[i], (enum vcpu_exit)k);
		fprintf(f, "%s\"%s\":%llu", k ? "," : "", names[k], (unsigned long long)sum);
	}
	fputs("}", f);
}

static void print_bus(const struct bus *b, const char *name, FILE *f)
{
	fprintf(f, ",\"%s\":[", name);
	for (unsigned i = 0; i < b->count; i++)
		fprintf(f, "{\"at\":%llu,\"name\":\"%s\",\"accesses\":%llu},",
			(unsigned long long)b->ranges[i].base, b->ranges[i].name,
			(unsigned long long)b->ranges[i].hits);
	fprintf(f, "{\"name\":\"nobody\",\"accesses\":%llu}]", (unsigned long long)b->missed);
}

char *machine_stats(struct machine *m)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fputs("{\"cmdline\":", f);
	json_put_string(f, m->cfg.cmdline ? m->cfg.cmdline : "");
	fputs(",", f);
	print_phases(m, f);
	print_exits(m, f);
	fputs(",\"nics\":", f);
	machine_put_nics(m, f);
	print_bus(&m->devices.pio, "ports", f);
	print_bus(&m->devices.mmio, "registers", f);
	fputs("}", f);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}
