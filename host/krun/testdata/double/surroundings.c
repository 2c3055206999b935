// SPDX-License-Identifier: Apache-2.0
//
// What a machine's process has around it when it enters: what a guest that breaks
// out of libkrun would find. Recorded once, for the tests of the jail.

#define _GNU_SOURCE
#include "double.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

enum { MAX_LISTED = 256 };

struct list {
	const char *words[MAX_LISTED + 1];
	int n;
};

static void list_add(struct list *l, const char *word)
{
	if (l->n < MAX_LISTED)
		l->words[l->n++] = copied(word);
}

static void list_put(struct call *c, const char *key, struct list *l)
{
	call_words(c, key, l->words);
	for (int i = 0; i < l->n; i++)
		free((char *)l->words[i]);
	l->n = 0;
}

// list_tree adds the paths below dir but those of /proc, in no order.
static void list_tree(struct list *l, const char *dir, int depth)
{
	char path[4096];
	DIR *d = opendir(dir[0] == 0 ? "/" : dir);
	if (d == NULL)
		return;
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		struct stat st;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		list_add(l, path);
		bool below = lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && strcmp(path, "/proc") != 0;
		if (below && depth > 0)
			list_tree(l, path, depth - 1);
	}
	closedir(d);
}

static void list_descriptors(struct list *l)
{
	char path[64], target[4096], line[4200];
	for (int fd = 0; fd < 256; fd++) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		ssize_t n = readlink(path, target, sizeof target - 1);
		if (n < 0)
			continue;
		target[n] = 0;
		snprintf(line, sizeof line, "%d %s", fd, target);
		list_add(l, line);
	}
}

// put_status records what the kernel says of this thread's rights.
static void put_status(struct call *c)
{
	static const char *const keys[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Groups", "Uid", "Gid", "Umask", "Seccomp"};
	char line[512];
	FILE *f = fopen("/proc/thread-self/status", "re");
	if (f == NULL)
		return;
	while (fgets(line, sizeof line, f) != NULL) {
		char *colon = strchr(line, ':');
		if (colon == NULL)
			continue;
		*colon = 0;
		char *value = colon + 1 + strspn(colon + 1, " \t");
		value[strcspn(value, "\n")] = 0;
		for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
			if (strcmp(line, keys[i]) == 0)
				call_text(c, line, value);
	}
	fclose(f);
}

// put_reach records the errno of opening what is on every host.
static void put_reach(struct call *c)
{
	static const char *const paths[] = {"/etc/passwd", "/usr", "/dev/zero"};
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
		call_number(c, paths[i], fd < 0 ? errno : 0);
		if (fd >= 0)
			close(fd);
	}
}

// put_refused records the errno of calls that a VMM never makes. Without a filter
// each of them succeeds, or has another errno than a filter's.
static void put_refused(struct call *c)
{
	const struct {
		const char *name;
		long number, args[3];
	} all[] = {
		{"ptrace", SYS_ptrace, {-1, 0, 0}},
		{"process_vm_readv", SYS_process_vm_readv, {getpid(), 0, 0}},
		{"mount", SYS_mount, {1, 1, 1}},
		{"unshare", SYS_unshare, {0, 0, 0}},
		{"setns", SYS_setns, {-1, 0, 0}},
		{"add_key", SYS_add_key, {0, 0, 0}},
		{"keyctl", SYS_keyctl, {-1, 0, 0}},
		{"name_to_handle_at", SYS_name_to_handle_at, {-1, 0, 0}},
		{"perf_event_open", SYS_perf_event_open, {0, 0, 0}},
		{"userfaultfd", SYS_userfaultfd, {-1, 0, 0}},
		{"clone3", SYS_clone3, {0, 0, 0}},
		{"io_uring_setup", SYS_io_uring_setup, {1, 0, 0}},
	};
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		errno = 0;
		long r = syscall(all[i].number, all[i].args[0], all[i].args[1], all[i].args[2], 0, 0, 0);
		call_number(c, all[i].name, r < 0 ? errno : 0);
	}
}

void surroundings_record(void)
{
	struct call c;
	call_open(&c, "surroundings");
	struct list l = {.n = 0};
	call_words(&c, "env", (const char *const *)environ);
	put_status(&c);
	put_reach(&c);
	list_descriptors(&l);
	list_put(&c, "fds", &l);
	memset(&l, 0, sizeof l);
	if (access(JAIL_DIR, F_OK) == 0) // else it is all of the test's machine
		list_tree(&l, "", 3);
	list_put(&c, "files", &l);
	call_event(&c);
	call_open(&c, "refused");
	put_refused(&c);
	call_event(&c);
}
