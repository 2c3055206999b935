// SPDX-License-Identifier: Apache-2.0
//
// A double of libkrun 1.17.3 for tests: the same symbols, order rules and return
// codes, but a process instead of a machine. Written from the facts of its header.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define API __attribute__((visibility("default")))

enum { MAX_CONTEXTS = 8, MAX_DISKS = 8, MAX_PORTS = 8, MAX_WORDS = 4096 };

// Where the machine's sockets are in Waggle's jail; the record and the orders are
// beside them.
#define JAIL_DIR "/vsock"
#define RECORD_FILE "double.jsonl"
#define ORDERS_FILE "double.conf"

struct disk {
	char *path;
	bool ro;
};

struct port {
	uint32_t number;
	char *path;
	bool listen;
};

enum vsock { VSOCK_IMPLICIT, VSOCK_DISABLED, VSOCK_EXPLICIT };

struct context {
	bool live;
	enum vsock vsock;
	struct disk disks[MAX_DISKS];
	int ndisks;
	struct port ports[MAX_PORTS];
	int nports;
	bool root;    // krun_set_root
	bool remount; // krun_set_root_disk_remount
	char *empty;  // the directory that the remount made
	char *exec;
	char **argv, **envp; // end with NULL
	char *console;
	bool nic;
};

// orders.c: what a test tells the double to do.

// order_about returns the value of "key=call[:value]", "" without a value, NULL
// when there is no such order.
const char *order_about(const char *key, const char *call);
// order_value returns the value of "key=value", or NULL.
const char *order_value(const char *key);
bool order_is(const char *key, const char *value);

// call.c: the record, one JSON object a line.

struct call {
	FILE *out;
	char *text;
	size_t size;
	const char *name;
	bool first;     // no argument yet
	bool malformed; // a string is not UTF-8
};

void call_open(struct call *c, const char *name);
void call_number(struct call *c, const char *key, int64_t n);
void call_bool(struct call *c, const char *key, bool b);
// call_text is for a string that may be NULL, call_must for one that may not.
void call_text(struct call *c, const char *key, const char *s);
void call_must(struct call *c, const char *key, const char *s);
void call_words(struct call *c, const char *key, const char *const words[]);
void call_mac(struct call *c, const uint8_t *mac);
// call_refused obeys the orders about this call, and says whether it is to fail:
// then *result is what it returns.
bool call_refused(struct call *c, int32_t *result);
int32_t call_close(struct call *c, int32_t result);
void call_event(struct call *c);
// call_entered records a call that does not return.
void call_entered(struct call *c);

// record_dir says where the record is to be when nothing else has said so.
void record_dir(const char *dir);

// context.c

struct context *context_of(uint32_t id);
void context_drop(struct context *x);
char *copied(const char *s);
char **copied_words(const char *const words[]);

// enter.c

// firmware_load looks for libkrunfw, once, and says nothing when it is not there.
void firmware_load(void);

// guest.c: the process in the machine's place. What it inherits, by number: its one
// program, for commands to be /proc/self/fd/100, and the directory of its sockets.
// Neither needs a path that the jail, or a namespace, might not have.
enum { PROGRAM_FD = 100, SOCKETS_FD = 101 };

#define SOCKETS "/proc/self/fd/101"

struct firmware {
	const char *kernel, *program;
	size_t kernel_size, program_size;
};

// guest_start returns its process id, or -errno.
pid_t guest_start(const struct context *x, const struct firmware *f, int console);

// wire.c: carries streams between the host's sockets and the guest's, which are in
// SOCKETS by the numbers of their ports.

// wire_outward is for the ports that the guest dials, wire_inward for the others.
void wire_outward(const struct context *x);
void wire_inward(const struct context *x);

// surroundings.c
void surroundings_record(void);
