// SPDX-License-Identifier: Apache-2.0
//
// The machine's place is taken by a process, in namespaces of its own where it may
// have them. Waggle's jail is one already, and lets nobody make others.

#define _GNU_SOURCE
#include "double.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ARGS = 64 };

struct plan {
	const struct context *x;
	bool namespaces;
	int console, guestd;
	int parent; // ends with the process that started this one
	int report; // closed by a good start, else has an errno
	char uid_map[64], gid_map[64];
	char *argv[MAX_ARGS], *envp[MAX_ARGS];
};

static bool put_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return good;
}

// unshared completes the namespaces: one user in them, who may not change groups
// then, and the processes of the new one in /proc.
static bool unshared(const struct plan *p)
{
	return put_text("/proc/self/setgroups", "deny") && put_text("/proc/self/gid_map", p->gid_map) &&
		put_text("/proc/self/uid_map", p->uid_map) && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0 && sethostname("double", 6) == 0;
}

// child runs beside the threads of a Go program that it is a copy of: system calls
// only, and no memory from the heap.
static _Noreturn void child(const struct plan *p)
{
	sigset_t none;
	struct pollfd alive = {.fd = p->parent, .events = POLLIN};
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);
	// With the first process of a namespace all others in it end.
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (poll(&alive, 1, 0) != 0)
		_exit(1); // the parent ended before that
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	bool good = null >= 0 && dup2(null, 0) >= 0 && dup2(p->console, 1) >= 0 && dup2(p->console, 2) >= 0;
	if (good && (!p->namespaces || unshared(p)) && setsid() >= 0)
		syscall(SYS_execveat, p->guestd, "", p->argv, p->envp, AT_EMPTY_PATH);
	int failed = errno;
	(void)!write(p->report, &failed, sizeof failed);
	_exit(1);
}

static void prepare(struct plan *p)
{
	char *head[] = {p->x->exec, "-listen", "unix://" SOCKETS "/1024", "-ready", "unix://" SOCKETS "/1025", NULL};
	int n = 0;
	if (order_is("ready", "no"))
		head[3] = NULL;
	for (int i = 0; head[i] != NULL; i++)
		p->argv[n++] = head[i];
	for (int i = 0; p->x->argv[i] != NULL && n < MAX_ARGS - 1; i++)
		p->argv[n++] = p->x->argv[i];
	p->envp[0] = "HOME=/";
	p->envp[1] = "TERM=linux";
	p->envp[2] = "TMPDIR=" SOCKETS; // the one place that it may write to, whatever the jail
	for (int i = 0; p->x->envp[i] != NULL && i < MAX_ARGS - 4; i++)
		p->envp[i + 3] = p->x->envp[i];
	// Not root inside: that user has groups to set for what it starts.
	snprintf(p->uid_map, sizeof p->uid_map, "%u %u 1\n", geteuid() == 0 ? 1000 : geteuid(), geteuid());
	snprintf(p->gid_map, sizeof p->gid_map, "%u %u 1\n", getegid() == 0 ? 1000 : getegid(), getegid());
}

// memory returns a file of the data; one that inherit names is the guest's too.
static int memory(const char *name, const char *data, size_t size, int inherit)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	while (fd >= 0 && size > 0) {
		ssize_t n = write(fd, data, size);
		if (n <= 0)
			return -1;
		data += n;
		size -= (size_t)n;
	}
	return inherit < 0 || fd < 0 ? fd : dup2(fd, inherit);
}

// try returns the process id, or -errno.
static pid_t try(struct plan *p)
{
	const unsigned long own = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC;
	int report[2], parent[2], failed = 0;
	// The write end of parent is closed by the end of this process.
	if (pipe2(report, O_CLOEXEC) != 0 || pipe2(parent, O_CLOEXEC) != 0)
		return -errno;
	p->report = report[1];
	p->parent = parent[0];
	pid_t pid = (pid_t)syscall(SYS_clone, (p->namespaces ? own : 0) | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		close(parent[1]);
		child(p);
	}
	int error = errno;
	close(report[1]);
	close(parent[0]);
	if (pid > 0 && read(report[0], &failed, sizeof failed) != sizeof failed)
		error = 0; // closed by execve
	else if (pid > 0)
		error = waitpid(pid, NULL, 0) == pid ? failed : errno;
	close(report[0]);
	return error == 0 ? pid : -error;
}

pid_t guest_start(const struct context *x, const struct firmware *f, int console)
{
	struct plan p = {.x = x, .console = console, .namespaces = true};
	if (x->exec == NULL || strcmp(x->exec, "/lib/waggle/guestd") != 0)
		return -ENOENT; // what Waggle's boot disk has
	p.guestd = memory("guestd", f->kernel, f->kernel_size, -1);
	if (p.guestd < 0 || memory("program", f->program, f->program_size, PROGRAM_FD) < 0)
		return -errno;
	prepare(&p);
	pid_t pid = try(&p);
	if (pid < 0) {
		p.namespaces = false;
		pid = try(&p);
	}
	struct call c;
	call_open(&c, "guest");
	call_number(&c, "pid", pid);
	call_bool(&c, "namespaces", p.namespaces);
	call_event(&c);
	return pid;
}
