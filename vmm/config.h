// SPDX-License-Identifier: MIT
// What a machine is to be, as plain values: filled from the command line, a JSON file or both.
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include "base/field.h"

#include <stdbool.h>
#include <stdint.h>

struct disk_config;
struct net_config;

enum config_command { CONFIG_BOOT = 1u << 0, CONFIG_RUN = 1u << 1 };

enum config_on_reboot { ON_REBOOT_EXIT, ON_REBOOT_RESTART };
enum config_console { CONSOLE_OFF, CONSOLE_SERIAL, CONSOLE_FILE };

#define CONFIG_CID_MIN 3u

struct config {
	/* As given; owned. */
	char *name;
	char *kernel, *initrd, *append;
	uint32_t cpus;
	uint64_t memory;         /* bytes, a multiple of 4 KiB */
	unsigned memory_backing; /* enum mem_backing */
	unsigned transport;      /* enum machine_transport; of config_check, if it was not given */
	unsigned disk_engine;    /* enum engine_kind */
	char *console;
	unsigned on_reboot; /* enum config_on_reboot */
	unsigned seccomp;   /* enum jail_mode */
	bool allow_software_kvm;
	uint64_t timeout_ns, boot_timeout_ns; /* 0: none */
	char *rootfs, *modules;
	struct field_list env; /* K=V each, once checked */
	char *workdir, *hostname;
	bool no_stdin;
	uint32_t cid;
	char *stats;
	struct field_list disk;    /* the words of each --disk */
	struct field_list net;     /* the words of each --net */
	struct field_list publish; /* the words of each --publish */
	struct field_list command; /* run: what the guest executes */
	char *config_file;
	bool help;

	/* Made of the above by config_check. */
	enum config_console console_kind;
	const char *console_path;  /* CONSOLE_FILE; within `console` */
	bool memory_given;         /* else run may take more when the root needs it */
	bool root_disk;            /* run: the first disk is what --rootfs names */
	char root_device[24];      /* the guest's name of its root; "": in memory, or unknown */
	struct disk_config *disks; /* disk_count of them */
	struct net_config *nics;   /* nic_count of them */
	unsigned disk_count, nic_count;

	struct fields fields;
};

/* Defaults of `command`. Ends in config_finish also when it fails. 0 or -errno. */
int config_init(struct config *c, enum config_command command);
void config_finish(struct config *c);

/*
 * Options, those of a file named by --config first, so that the command line overrides it. For run,
 * what follows the options is the command. -errno with a message that names the option.
 * With --help nothing further is checked, and c->help is set.
 */
int config_parse(struct config *c, int argc, char **argv);

/* Judges the values together and against this host. 0 or -errno. */
int config_check(struct config *c);

/* -ENOMEM, naming both, when this host has less memory than that. */
int config_check_memory(uint64_t bytes);

void config_print_help(const struct config *c, FILE *out);

/* A JSON object of one line, which --config reads back. */
void config_save(const struct config *c, FILE *out);

#endif
