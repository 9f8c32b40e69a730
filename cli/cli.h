// SPDX-License-Identifier: MIT
// The program's commands and its exit statuses.
#ifndef CLI_CLI_H
#define CLI_CLI_H

/* docs/exit-status.md explains each. */
enum cli_status {
	STATUS_OK = 0,
	STATUS_RESET = 10,        /* boot: the guest reset */
	STATUS_PANIC = 11,        /* boot: its kernel panicked */
	STATUS_TRIPLE_FAULT = 12, /* boot: its processor shut down */
	STATUS_TIMEOUT = 124,
	STATUS_FAILED = 125, /* the monitor failed; the message says why */
	STATUS_NOT_EXECUTABLE = 126,
	STATUS_NOT_FOUND = 127,
	STATUS_KILLED = 137, /* 128 + SIGKILL */
};

/* Each gets its own name as argv[0] and returns the process's exit status. */
int cmd_boot(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_snapshot_disk(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_control(int argc, char **argv); /* argv[0] is the verb */
int cmd_resize_disk(int argc, char **argv);
int cmd_attach_disk(int argc, char **argv);
int cmd_attach_nic(int argc, char **argv);
int cmd_detach(int argc, char **argv);
int cmd_commit_disk(int argc, char **argv);
int cmd_mirror_disk(int argc, char **argv);
int cmd_net(int argc, char **argv);
int cmd_image(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

/* Prints last_error() and gives STATUS_FAILED. */
int cli_failed(void);

#endif
